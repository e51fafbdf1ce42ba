"""What an exported folder says of itself."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rct_tflite.errors import ModelFileError
from rct_tflite.planning.memory import MemoryPlan, plan_memory
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.target import Target
from rct_tflite.spec.target_file import read_target
from rct_tflite.spec.training_plan import TrainingPlan
from rct_tflite.tflite.reader import read_graph

FORMAT = 1
MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.tflite"
TARGET_FILE = "target.toml"


@dataclass(frozen=True)
class Manifest:
    """The choices of an export."""

    network: str
    trained: tuple[str, ...]
    learning_rate: float
    rounding: str

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
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise ValueError("another format")
        manifest = Manifest(**{**values, "trained": tuple(values["trained"])})
        plan = TrainingPlan(manifest.trained, float(manifest.learning_rate), Rounding(manifest.rounding))
        model = (folder / MODEL_FILE).read_bytes()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(
            f"{folder} is no folder of 'rct-tflite export'. Expected a {MANIFEST_FILE} of format {FORMAT} and a "
            f"{MODEL_FILE}. Received: {error}. Export the model again."
        ) from error
    graph = read_graph(model, name=manifest.network)
    unknown = set(plan.trained) - {op.name for op in graph.ops if op.has_weights}
    if unknown or not plan.trained:
        raise ModelFileError(
            f"{path} does not fit the model beside it. Expected names of its layers to train. "
            f"Received: {sorted(plan.trained)}. Export the model again."
        )
    return Project(folder, model, graph, plan, plan_memory(graph, plan), read_target(folder / TARGET_FILE))
