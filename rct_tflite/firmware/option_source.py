"""Options of the training step in C: which files of the runtime they need, and their part of model.c."""

import shutil
from pathlib import Path

from rct_tflite.firmware.source import ModelSource, Names, Struct
from rct_tflite.firmware.tables import struct_text
from rct_tflite.reference.losses import loss_tensor
from rct_tflite.reference.rates import clip_constants, rate_limits
from rct_tflite.spec.training_plan import TrainingPlan

_RATES = ("rct_rates.h", "blocks.h", "scale_error.c", "rates.c")


def copy_options(source: Path, runtime: Path, plan: TrainingPlan) -> None:
    """Copies the files of the options that a plan uses: headers beside rct.h, the others to the kernels.

    Args:
        source: Folder of all options.
        runtime: The runtime of an export.
        plan: Says which.
    """
    for name in _files(plan):
        folder = runtime if name.startswith("rct_") else runtime / "kernels"
        shutil.copyfile(source / name, folder / name)


def _files(plan: TrainingPlan) -> tuple[str, ...]:
    options, files = plan.options, []
    if options.has_factor(plan.loss.takes_class) or options.class_weights:
        files += [name for name in _RATES if name != "rates.c" or options.schedule is not None]
    return tuple(dict.fromkeys(files))


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
