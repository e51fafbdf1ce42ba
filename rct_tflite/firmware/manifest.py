"""What an exported folder says of itself."""

import dataclasses
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from rct_tflite.errors import ModelFileError
from rct_tflite.planning.memory import MemoryPlan, plan_memory
from rct_tflite.spec.adaptation import Adaptation
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.target import Target
from rct_tflite.spec.target_file import read_target
from rct_tflite.spec.training_plan import Loss, TrainingPlan
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
        adaptation: How bit-widths follow the training; None where they stay.
    """

    network: str
    model_sha256: str
    trained: tuple[str, ...]
    learning_rate: float
    rounding: str
    loss: str = str(Loss.SOFTMAX_CROSS_ENTROPY)
    adaptation: Adaptation | None = None

    def write(self, folder: Path) -> None:
        """Writes `manifest.json`."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=2, sort_keys=True)
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
        plan = TrainingPlan(manifest.trained, manifest.learning_rate, rounding, loss, manifest.adaptation)
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
    # In the order of the graph, and each once.
    known = tuple(op.name for op in graph.ops if op.has_weights and op.name in plan.trained)
    if plan.trained != known or not known:
        raise ModelFileError(
            f"{path} does not fit the model beside it. Expected names of its layers to train. "
            f"Received: {list(plan.trained)}. Export the model again."
        )
    return Project(folder, model, graph, plan, plan_memory(graph, plan), read_target(folder / TARGET_FILE))


def sha256(model: bytes) -> str:
    """Returns the checksum that the manifest holds, in hexadecimal digits."""
    return hashlib.sha256(model).hexdigest()


def _read_manifest(path: Path) -> Manifest:
    values = json.loads(path.read_text(encoding="utf-8"))
    if values.pop("format") != FORMAT:
        raise ValueError("another format")
    trained, learning_rate = tuple(values["trained"]), float(values["learning_rate"])
    manifest = Manifest(**{**values, "trained": trained, "learning_rate": learning_rate})
    if manifest.adaptation is not None:
        adaptation = values["adaptation"]
        adaptation = Adaptation(**{**adaptation, "layers": tuple(adaptation["layers"])})
        manifest = dataclasses.replace(manifest, adaptation=adaptation)
    if not 0.0 < learning_rate < math.inf or not isinstance(manifest.network, str):
        raise ValueError(f"network {manifest.network!r}, learning rate {learning_rate}")
    return manifest
