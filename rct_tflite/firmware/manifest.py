"""What an exported folder says of itself."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rct_tflite.errors import ModelFileError
from rct_tflite.planning.memory import MemoryPlan, plan_memory
from rct_tflite.spec.adaptation import Adaptation
from rct_tflite.spec.aid_options import NO_AIDS, AidOptions
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.step_options import PLAIN_STEP, StepOptions, options_from_json, options_to_json
from rct_tflite.spec.target import Target
from rct_tflite.spec.target_file import read_target
from rct_tflite.spec.training_plan import ERROR_BITS, Loss, PartialUpdate, TrainingPlan
from rct_tflite.tflite.reader import read_graph

FORMAT = 1
MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.tflite"
TARGET_FILE = "target.toml"


@dataclass(frozen=True)
class Manifest:
    """The choices of an export.

    Attributes:
        network: Name of the network.
        model_sha256: Of `model.tflite`: the firmware beside it holds the same weights.
        trained: Names of the ops that learn, in the order of the graph.
        learning_rate: On the device.
        rounding: Of the updates.
        loss: What a training step makes smaller.
        partial: Of the ops that learn in part, the channels whose weights do.
        search: What was tried to find out what learns, for people; None where the user said it.
        options: Of the step; what is off is not written.
        aids: Beside the step; what is off is not written.
        error_bits: Bit-width of the errors.
        adaptation: How bit-widths follow the training; None where they stay.
        recomputed: Names of the ops that the backward pass calls again; not written where there are none.
    """

    network: str
    model_sha256: str
    trained: tuple[str, ...]
    learning_rate: float
    rounding: str
    loss: str = str(Loss.SOFTMAX_CROSS_ENTROPY)
    partial: tuple[PartialUpdate, ...] = ()
    search: dict[str, Any] | None = None
    options: StepOptions = PLAIN_STEP
    aids: AidOptions = NO_AIDS
    error_bits: int = 8
    adaptation: Adaptation | None = None
    recomputed: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        """Writes `manifest.json`."""
        values = {"format": FORMAT, **asdict(self)}
        chosen: Any
        for key, chosen in (
            ("options", options_to_json(self.options)),
            ("aids", self.aids.to_json()),
            ("recomputed", self.recomputed),
        ):
            values[key] = chosen
            if not chosen:
                del values[key]
        text = json.dumps(values, indent=2, sort_keys=True)
        (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True, eq=False)
class Project:
    """An exported folder, read back."""

    folder: Path
    model: bytes
    graph: Graph
    plan: TrainingPlan
    memory: MemoryPlan
    target: Target


def read_project(folder: Path) -> Project:
    """Reads an exported folder.

    Raises:
        ModelFileError: If it is not one, or was damaged.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = _read_manifest(path)
        rounding, loss = Rounding(manifest.rounding), Loss(manifest.loss)
        plan = TrainingPlan(
            manifest.trained,
            manifest.learning_rate,
            rounding,
            loss,
            manifest.partial,
            manifest.options,
            manifest.aids,
            manifest.error_bits,
            manifest.adaptation,
            manifest.recomputed,
        )
        model = (folder / MODEL_FILE).read_bytes()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(
            f"{folder} is no folder of 'rct-tflite export'. Expected a {MANIFEST_FILE} of format {FORMAT} and a "
            f"{MODEL_FILE}. Received: {error}. Export the model again."
        ) from error
    if sha256(model) != manifest.model_sha256:
        raise ModelFileError(
            f"{folder / MODEL_FILE} has changed since the export. Expected the file that the firmware beside it was "
            f"made of. Received: another one. Export it to a folder of its own: rct-tflite export {MODEL_FILE}."
        )
    graph = read_graph(model, name=manifest.network)
    if not _fits(plan, graph):
        raise ModelFileError(
            f"{path} does not fit the model beside it. Expected names of its layers to train, and of their channels. "
            f"Received: {list(plan.trained)}, {list(plan.partial)}. Export the model again."
        )
    return Project(folder, model, graph, plan, plan_memory(graph, plan), read_target(folder / TARGET_FILE))


def flash_limit(folder: Path) -> int | None:
    """Returns the bytes of flash that a search for what learns was given, None where there was none.

    Args:
        folder: An exported folder, or one that holds its firmware alone.

    Raises:
        ModelFileError: If the manifest is damaged.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return None
    try:
        search = json.loads(path.read_text(encoding="utf-8")).get("search")
        return None if search is None else int(search["limits"]["flash"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(
            f"{path} is damaged. Expected the flash of its search. Received: {error!r}. Export the model again."
        ) from error


def _fits(plan: TrainingPlan, graph: Graph) -> bool:
    """Whether layers, and channels of each, are those of the graph, in its order and each once."""
    if plan.recomputed != tuple(op.name for op in graph.ops if op.name in plan.recomputed):
        return False
    ops = {op.name: op for op in graph.ops if op.has_weights}
    parts = {part.op: part.channels for part in plan.partial}
    if plan.trained != tuple(name for name in ops if name in plan.trained) or len(parts) != len(plan.partial):
        return False
    return all(
        name in plan.trained and channels == tuple(i for i in range(graph.row_shape(ops[name])[0]) if i in channels)
        for name, channels in parts.items()
    )


def sha256(model: bytes) -> str:
    """Returns the checksum that the manifest holds, in hexadecimal digits."""
    return hashlib.sha256(model).hexdigest()


def _read_manifest(path: Path) -> Manifest:
    values = json.loads(path.read_text(encoding="utf-8"))
    if values.pop("format") != FORMAT:
        raise ValueError("another format")
    trained, learning_rate = tuple(values["trained"]), float(values["learning_rate"])
    partial = tuple(PartialUpdate(part["op"], tuple(part["channels"])) for part in values.get("partial", ()))
    options, aids = options_from_json(values.get("options", {})), AidOptions(**values.get("aids", {}))
    values |= {"trained": trained, "learning_rate": learning_rate, "partial": partial, "options": options, "aids": aids}
    if values.get("adaptation") is not None:
        adaptation = values["adaptation"]
        values["adaptation"] = Adaptation(**{**adaptation, "layers": tuple(adaptation["layers"])})
    values["recomputed"] = tuple(values.get("recomputed", ()))
    manifest = Manifest(**values)
    if not 0.0 < learning_rate < math.inf or not isinstance(manifest.network, str):
        raise ValueError(f"network {manifest.network!r}, learning rate {learning_rate}")
    if manifest.error_bits not in ERROR_BITS:
        raise ValueError(f"error_bits {manifest.error_bits!r}")
    return manifest
