"""Options of the training step in C: which files of the runtime they need, and their part of model.c."""

import shutil
from pathlib import Path

from rct_tflite.firmware.source import ModelSource, Names, Struct
from rct_tflite.firmware.tables import struct_text
from rct_tflite.planning.held import TAUGHT, held_layout
from rct_tflite.reference.backward import backward_steps
from rct_tflite.reference.losses import loss_tensor
from rct_tflite.reference.packing import holds_wide_weights
from rct_tflite.reference.rates import clip_constants, rate_limits
from rct_tflite.spec.aid_options import NO_AIDS
from rct_tflite.spec.graph import Graph, Op, OpKind
from rct_tflite.spec.training_plan import TrainingPlan

_AIDS = ("rct_aids.h", "clear.h", "evaluation.c", "replay.c")
_GATHER = ("rct_gather.h", "gather.c")
_HELD = ("rct_held.h", "blocks.h", "clear.h", "held_update.c", "held_sums.c", "fully_connected_held.c")
_RENAMED = {"learn_channel_held.c": "learn_channel.c"}
"""Replaces a kernel of another name."""
_WIDE = ("wide.h",)
"""Replaces a header of its name, with which weights have up to 8 bits."""
_RATES = ("rct_rates.h", "blocks.h", "scale_error.c", "rates.c")
_WIDTHS = ("rct_adapt.h", "adapt.h", "adapt.c", "adapt_bits.c", "adapt_rows.c", "observe.h")

HELD_FULLY_CONNECTED = "rct_fully_connected_held"
"""The kernel that takes a FULLY_CONNECTED op's update through rows, of ops that learn in part, too."""


def copy_options(source: Path, runtime: Path, graph: Graph, plan: TrainingPlan) -> None:
    """Copies the files of the options that a plan uses: headers beside rct.h, the others to the kernels.

    Args:
        source: Folder of all options.
        runtime: The runtime of an export.
        graph: The network.
        plan: Says which.
    """
    for name in (*_files(graph, plan), *(_WIDE if holds_wide_weights(graph, plan) else ())):
        folder = runtime if name.startswith("rct_") else runtime / "kernels"
        shutil.copyfile(source / name, folder / _RENAMED.get(name, name))


def _files(graph: Graph, plan: TrainingPlan) -> tuple[str, ...]:
    options = plan.options
    files: list[str] = []
    tables = [op.name for op in graph.ops if op.kind is OpKind.GATHER]
    if tables:
        files += _GATHER
    if set(tables) & set(plan.trained):
        files += ["gather_grad.c", *(["gather_grad_16.c"] if plan.error_bits == 16 else [])]
    if options.has_factor(plan.loss.takes_class) or options.class_weights:
        files += [name for name in _RATES if name != "rates.c" or options.schedule is not None]
        files += ["scale_error_16.c"] if plan.error_bits == 16 else []
    if options.holds_gradients:
        files += [*_HELD, *_RENAMED]
        files += ["fully_connected_held_16.c"] if plan.error_bits == 16 else []
    if plan.aids != NO_AIDS:
        files += _AIDS
    if plan.adaptation is not None:
        files += _WIDTHS
    return tuple(dict.fromkeys(files))


def option_macros(graph: Graph, plan: TrainingPlan) -> tuple[tuple[str, int], ...]:
    """Returns (macro, 0 or 1): which options there are, for the application and for each other."""
    has = {
        "RATES": plan.options.schedule is not None,
        "AIDS": plan.aids != NO_AIDS,
        "IDS": graph.takes_ids,
        "HELD": plan.options.holds_gradients,
        "WIDTHS": plan.adaptation is not None,
        "PARTS": bool(plan.partial),
    }
    return tuple((f"RCT_HAS_{name}", int(there)) for name, there in has.items())


def add_error_scaling(names: Names, source: ModelSource) -> None:
    """Adds what happens to the error between the loss and the last op."""
    options, loss = names.plan.options, names.plan.loss
    if not options.has_factor(loss.takes_class) and not options.class_weights:
        return
    source.includes.append("rct_rates.h")
    read = loss_tensor(names.graph, loss)
    count, weight = names.graph.tensors[read].size, "RCT_WEIGHT_ONE"
    if options.class_weights:
        source.add_table("class_weights", "uint16_t", "1/256", options.class_weights)
        if loss.takes_class:
            weight = "class_weights[label]"
        else:
            source.backward.append(f"rct_weigh_outputs(class_weights, {count}, {source.loss_error}, &backward);")
    if options.has_factor(loss.takes_class):
        rate = _add_schedule(names, source) if options.schedule is not None else "RCT_RATE_ONE"
        clip = clip_constants(names.graph, names.plan)
        factor = source.add_struct(
            "rct_error_factor_t",
            "error_factor",
            count=count,
            limit_mantissa=clip.limit.mantissa if clip else 0,
            limit_shift=clip.limit.shift if clip else 0,
            norm_shift=clip.norm_shift if clip else 0,
        )
        source.backward.append(f"rct_scale_error({factor}, {rate}, {weight}, {source.loss_error}, &backward);")


def _add_schedule(names: Names, source: ModelSource) -> str:
    """Adds the schedule; returns where the rate is."""
    points = names.plan.options.schedule or ()
    low, high = rate_limits(names.graph, names.plan)
    if points:
        rows = ", ".join(struct_text(step=f"{point.step}u", rate=f"{point.rate}u") for point in points)
        source.structs.append(Struct("rct_rate_point_t", f"rate_points[{len(points)}]", f"{{{rows}}}"))
    source.variables.append("static rct_rate_t rate;")
    fields = struct_text(
        points="rate_points" if points else "NULL", count=len(points), lowest=f"{low}u", highest=f"{high}u", now="&rate"
    )
    source.exported.append(Struct("rct_schedule_t", "rct_model_schedule", fields))
    source.reset.append("rct_schedule_reset(&rct_model_schedule);")
    source.begin.append("rct_schedule_advance(&rct_model_schedule);")
    return "rate.rate"


def add_held(names: Names, source: ModelSource, op: Op, learn: str) -> str:
    """Adds what a trained op holds from sample to sample.

    Args:
        names: Of the network.
        source: Of model.c.
        op: With weights that learn.
        learn: Initialiser of its rct_learn_t.

    Returns:
        The address of its rct_learn_t.
    """
    slot, name = held_layout(names.graph, names.plan).slots[op.name], names.ops[op.name]
    adapts = names.plan.adaptation is not None
    source.add_struct(
        "rct_held_t",
        f"held_{name}",
        learn=learn,
        shape=f"&op_{name}.weights",
        sum_exponents=_held_place("int16_t", slot.sum_exponents),
        sums=_held_place("int16_t", slot.sums),
        momentum_exponents=_held_place("int16_t", slot.momentum_exponents),
        momentum=_held_place("int8_t", slot.momentum),
        rows=slot.rows,
        decay=names.plan.options.momentum,
        **({"layer": names.plan.trained.index(op.name)} if adapts else {}),
    )
    return f"&held_{name}.learn"


def _held_place(ctype: str, offset: int | None) -> str:
    return "NULL" if offset is None else f"({ctype} *)(void *)(held.bytes + {offset})"


def add_accumulation(names: Names, source: ModelSource) -> None:
    """Adds the memory of what is held, and what ends a sample."""
    options = names.plan.options
    if not options.holds_gradients:
        return
    layout = held_layout(names.graph, names.plan)
    size = layout.sum_bytes + layout.momentum_bytes
    source.includes += ["kernels/clear.h", "rct_held.h"]
    source.variables.append(
        f"static union {{\n    uint32_t aligned[{size // 4}];\n    uint8_t bytes[{size}];\n}} held;"
    )
    source.reset.append("rct_clear(&held, sizeof held);")
    if options.accumulate == 1:
        return
    adapts = names.plan.adaptation is not None
    learnt = [step.op.name for step in backward_steps(names.graph, names.plan) if step.op.name in names.plan.trained]
    rows = ", ".join(f"&held_{names.ops[name]}" for name in learnt)
    source.structs.append(Struct("rct_held_t *const", f"held_ops[{len(learnt)}]", f"{{{rows}}}"))
    accumulation = source.add_struct(
        "rct_accumulation_t",
        "accumulation",
        ops="held_ops",
        count=len(learnt),
        samples=options.accumulate,
        waiting=_held_place("uint16_t", 0),
        gradient="SUMS",
        **({"taught": _held_place("uint16_t", TAUGHT), "adaptation": "&adaptation"} if adapts else {}),
    )
    if adapts:
        source.backward.append(f"rct_taught({accumulation});")
    source.finish.append(f"rct_finish_sample({accumulation}, &backward);")


def add_aids(names: Names, source: ModelSource) -> None:
    """Adds the memory of what counts, keeps and replays."""
    aids, graph = names.plan.aids, names.graph
    if aids == NO_AIDS:
        return
    source.includes.append("rct_aids.h")
    fields = dict.fromkeys(("progress", "confusion", "best", "replay", "held"), "NULL")
    if aids.evaluates:
        fields["progress"] = "&progress"
        source.variables.append("static rct_progress_t progress;")
    if aids.evaluates and names.plan.loss.takes_class:
        fields["confusion"] = "confusion"
        source.variables.append(f"static uint16_t confusion[{source.classes**2}];")
    if aids.keeps_best:
        fields["best"] = "best_parameters"
        source.variables.append(f"static uint8_t best_parameters[{names.memory.parameter_bytes}];")
    if aids.replay_slots:
        slots, size = aids.replay_slots, graph.input_bytes
        source.variables += [
            f"static int8_t replay_samples[{slots * size}];",
            f"static uint16_t replay_labels[{slots}];",
            f"static rct_replay_class_t replay_classes[{source.classes}];",
            "static rct_replay_state_t replay_state;",
        ]
        fields["replay"] = source.add_struct(
            "rct_replay_t",
            "replay",
            slots=slots,
            samples="replay_samples",
            labels="replay_labels",
            classes="replay_classes",
            state="&replay_state",
        )
    held_bytes = "0"
    if names.plan.options.holds_gradients:
        fields["held"], held_bytes = "&held", "sizeof held"
    if names.plan.adaptation is not None:
        fields["adaptation"] = "&adaptation"
    source.exported.append(Struct("rct_aids_t", "rct_model_aids", struct_text(**fields, held_bytes=held_bytes)))
    source.reset.append("rct_aids_reset(&rct_model_aids);")
