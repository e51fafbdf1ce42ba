"""The C of the firmware for this computer, for many plans: what no plan changes is compiled once."""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rct_tflite.firmware.build import INCLUDE_FOLDERS, project_sources
from rct_tflite.firmware.project import FIRMWARE_FOLDER, write_firmware
from rct_tflite.firmware.session import Runner, host_runner
from rct_tflite.firmware.toolchain import HOST, find_toolchain
from rct_tflite.planning.memory import plan_memory
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.target_file import find_target
from rct_tflite.spec.training_plan import TrainingPlan

TARGET = "cortex-m7"


class HostBuilds:
    """Builds plans that differ in the network and in what learns, not in the options of a step.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shared: list[Path] = []
        self._toolchain = find_toolchain(HOST)

    def runner(self, graph: Graph, plan: TrainingPlan, golden: npt.NDArray[np.int8]) -> Runner:
        """Returns the firmware of a plan. It is that of the last call: the one before is gone.

        Args:
            graph: The network.
            plan: What learns.
            golden: int8 (n, *input shape without batch), inputs of the self-test.
        """
        project = self._folder / "project"
        shutil.rmtree(project, ignore_errors=True)
        project.mkdir()
        write_firmware(project, graph, plan, plan_memory(graph, plan), find_target(TARGET), golden)
        model = [source for source in project_sources(project, HOST) if source.parent.name == "model"]
        if not self._shared:
            self._shared = self._compiled(project, [s for s in project_sources(project, HOST) if s not in model])
        image = self._folder / "firmware"
        self._toolchain.link([*self._compiled(project, model), *self._shared], image)
        return host_runner(image)

    def _compiled(self, project: Path, sources: list[Path]) -> list[Path]:
        objects = self._folder / ("objects" if self._shared else "shared")
        objects.mkdir(exist_ok=True)
        includes = [project / FIRMWARE_FOLDER / part for part in INCLUDE_FOLDERS]
        return self._toolchain.compile(sources, includes, objects)
