"""The part of model.c that lets bit-widths follow the training: limits of each layer, thresholds, calls."""

from rct_tflite.firmware.source import ModelSource, Names, Struct
from rct_tflite.firmware.tables import struct_text
from rct_tflite.reference.adaptation import band_of, crowd_share, limits_of
from rct_tflite.spec.graph import Op, OpKind
from rct_tflite.spec.quantization import Rounding


def adapts(names: Names, op: Op) -> bool:
    """Whether the tables of an op are bound to its present width at each call."""
    return names.plan.adaptation is not None and op.name in names.plan.trained


def layer_number(names: Names, op: Op) -> int:
    """Returns the place of a trained op in the tables of the adaptation."""
    return names.plan.trained.index(op.name)


def bound_op(names: Names, op: Op) -> str:
    """Returns the address of the op that a forward kernel reads."""
    if not adapts(names, op):
        return f"&op_{names.ops[op.name]}"
    member = "fully_connected" if op.kind is OpKind.FULLY_CONNECTED else "conv_2d"
    return f"&rct_bind(&adaptation, {layer_number(names, op)}, &bound)->{member}"


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
    )
    source.adapts = True
    source.checks.insert(0, "rct_adapt_is_sound(&adaptation)")  # what places the others
    source.includes.append("rct_adapt.h")
    source.variables.append(f"static rct_width_t widths[{len(ops)}];")
    source.variables.append("static uint32_t learnt_steps; /* since the last decision on widths */")
    source.reset.insert(0, "rct_adapt_reset(&adaptation);")
    source.backward.append("rct_adapt(&adaptation, &backward);")


def _layer(names: Names, op: Op) -> str:
    limits, name = limits_of(names.graph, names.plan, op), f"&op_{names.ops[op.name]}"
    dense = op.kind is OpKind.FULLY_CONNECTED
    return struct_text(
        fully_connected=name if dense else "NULL",
        conv_2d="NULL" if dense else name,
        grad=f"&grad_{names.ops[op.name]}",
        min_bits=limits.min_bits,
        max_bits=limits.max_bits,
        lowest_octave=limits.lowest_octave,
        highest_octave=limits.highest_octave,
    )
