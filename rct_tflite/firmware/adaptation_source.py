"""The part of model.c that lets bit-widths follow the training: limits of each layer, thresholds, calls."""

from rct_tflite.firmware.source import ModelSource, Names, Struct
from rct_tflite.firmware.tables import struct_text
from rct_tflite.reference.adaptation import band_of, crowd_share, limits_of
from rct_tflite.spec.graph import Op, OpKind
from rct_tflite.spec.quantization import Rounding


def adapts(names: Names, op: Op) -> bool:
    """Whether the tables of an op are bound to its present width at each call."""
    return names.plan.adaptation is not None and op.name in names.plan.trained


def bound_grad(names: Names, op: Op, grad: str) -> tuple[str, list[str], list[str]]:
    """Returns the op and tables that a backward kernel reads, and the statements before and after its call.

    Args:
        names: Of the network.
        op: With weights.
        grad: The address of its tables as exported.
    """
    if not adapts(names, op):
        return f"&op_{names.ops[op.name]}, {grad}", [], []
    bind = f"rct_bind_grad(&adaptation, {layer_number(names, op)}, &bound_grad, &backward);"
    called = f"&bound_grad.op.{_member(op)}, &bound_grad.grad"
    return called, [bind], ["backward.exponent -= 2 * bound_grad.octave;"]


def layer_number(names: Names, op: Op) -> int:
    """Returns the place of a trained op in the tables of the adaptation."""
    return names.plan.trained.index(op.name)


def bound_op(names: Names, op: Op) -> str:
    """Returns the address of the op that a forward kernel reads."""
    if not adapts(names, op):
        return f"&op_{names.ops[op.name]}"
    return f"&rct_bind(&adaptation, {layer_number(names, op)}, &bound)->{_member(op)}"


def add_adaptation(names: Names, source: ModelSource) -> None:
    """Adds tables and calls where widths follow the training; to be called after everything else is there."""
    plan = names.plan
    if plan.adaptation is None:
        return
    ops = [op for op in names.graph.ops if op.name in plan.trained]
    layers = ", ".join(_layer(names, op) for op in ops)
    source.structs.append(Struct("rct_adapted_layer_t", f"adapted_layers[{len(ops)}]", f"{{{layers}}}"))
    band = band_of(plan)
    source.add_struct(
        "rct_adaptation_t",
        "adaptation",
        layers="adapted_layers",
        widths="widths",
        steps="&learnt_steps",
        parameters="parameters.bytes",
        shifts="SHIFTS",
        count=len(ops),
        interval=plan.adaptation.interval,
        parameter_bytes="sizeof parameters",
        budget_bytes=band.budget_bytes,
        t_min=band.t_min,
        t_max=band.t_max,
        crowd=crowd_share(plan),
        stochastic="true" if plan.rounding is Rounding.STOCHASTIC else "false",
        **({"rates": "&learnt_rates", "rate": "&rate.rate"} if plan.options.schedule is not None else {}),
    )
    source.adapts = True
    source.checks.insert(0, "rct_adapt_is_sound(&adaptation)")  # what places the others
    source.includes += ["rct_adapt.h", "kernels/adapt.h"]
    source.variables.append(f"static rct_width_t widths[{len(ops)}];")
    source.variables.append("static uint32_t learnt_steps; /* since the last decision on widths */")
    if plan.options.schedule is not None:
        source.variables.append("static uint64_t learnt_rates; /* of these steps */")
    parts = [op for op in ops if 0 < limits_of(names.graph, plan, op).rows < names.graph.row_shape(op)[0]]
    copies = [
        f"rct_copy_rows(rct_rows_of(&adaptation, {layer_number(names, op)}), &op_{names.ops[op.name]}.weights);"
        for op in parts
    ]
    source.reset[:0] = ["rct_adapt_reset(&adaptation);", *copies]
    if plan.options.accumulate == 1:  # else it follows the update by the sums
        source.backward.append("rct_adapt(&adaptation, &backward);")


def _member(op: Op) -> str:
    return "fully_connected" if op.kind is OpKind.FULLY_CONNECTED else "conv_2d"


def _layer(names: Names, op: Op) -> str:
    limits, name = limits_of(names.graph, names.plan, op), f"&op_{names.ops[op.name]}"
    dense = op.kind is OpKind.FULLY_CONNECTED
    return struct_text(
        fully_connected=name if dense else "NULL",
        conv_2d="NULL" if dense else name,
        grad=f"&grad_{names.ops[op.name]}",
        rows=limits.rows,
        min_bits=limits.min_bits,
        max_bits=limits.max_bits,
        lowest_octave=limits.lowest_octave,
        highest_octave=limits.highest_octave,
    )
