"""Writes the C project: the runtime as it is, the generated model, the application, the ports, CMake."""

import dataclasses
import shutil
from pathlib import Path

import jinja2

from rct_tflite.emulator.qemu import MACHINES
from rct_tflite.errors import TargetError
from rct_tflite.firmware.model_source import model_source
from rct_tflite.firmware.option_source import copy_options, option_macros
from rct_tflite.firmware.toolchain import CORES
from rct_tflite.planning.memory import MemoryPlan
from rct_tflite.spec.graph import Graph, Inputs
from rct_tflite.spec.target import Target
from rct_tflite.spec.templates import templates_folder
from rct_tflite.spec.training_plan import TrainingPlan

FIRMWARE_FOLDER = "firmware"
LINKER_TEMPLATE = Path("ports", "cortex-m", "link.ld.j2")
CORTEX_M = "cortex-m"
RISCV = "riscv"


def write_firmware(
    folder: Path,
    graph: Graph,
    plan: TrainingPlan,
    memory: MemoryPlan,
    target: Target,
    golden: Inputs,
) -> Path:
    """Writes everything that a C compiler needs into `folder/firmware`.

    The linker script has the target's sizes at the addresses where the emulated board of its core has memory.

    Args:
        folder: An existing folder.
        graph: The network.
        plan: What learns.
        memory: The memory plan of both.
        target: Sizes of memory and stack.
        golden: int8, or int32 ids, (n, *input shape without batch), inputs of the self-test.

    Returns:
        The new folder. The same arguments give the same bytes.
    """
    templates = templates_folder()
    firmware = folder / FIRMWARE_FOLDER
    for part in ("runtime", "app", "ports"):
        copy_contents(templates / part, firmware / part)
    copy_options(templates / "runtime" / "options", firmware / "runtime", graph, plan)
    options = firmware / "runtime" / "rct_options.h"
    render(templates / "glue" / "rct_options.h.j2", options, options=option_macros(graph, plan))
    for name in ("CMakeLists.txt", "README.md"):
        (firmware / "app" / name).rename(firmware / name)
    (firmware / "model").mkdir()
    source = model_source(graph, plan, memory, golden)
    render(templates / "glue" / "model.c.j2", firmware / "model" / "model.c", model=source)
    render(templates / LINKER_TEMPLATE, firmware / linker_script(target.core), target=emulated(target))
    return firmware


def port_of(core: str) -> str:
    """Returns the folder of `ports` that a core starts with."""
    return RISCV if core.startswith("rv") else CORTEX_M


def linker_script(core: str) -> Path:
    """Returns where a firmware folder has the linker script of a core."""
    return Path("ports", port_of(core), "link.ld")


def port_sources(firmware: Path, core: str) -> list[Path]:
    """Returns the C files of a firmware folder that start a core and are its byte stream."""
    sources = sorted((firmware / "ports" / port_of(core)).glob("*.c"))
    return sources if port_of(core) == CORTEX_M else [*sources, firmware / "ports" / CORTEX_M / "semihosting.c"]


def emulated(target: Target) -> Target:
    """Returns the target with its memories where the emulated board of its core has them; not every core needs one.

    Raises:
        TargetError: If we have neither compiler flags nor a board for the core.
    """
    if target.core not in CORES:
        raise TargetError(
            f"Cannot build for the core of target {target.name!r}. Expected one of {[*CORES]}. "
            f"Received: core={target.core!r}. Change it in the target file."
        )
    board = MACHINES.get(target.core)
    if board is None:
        return target
    return dataclasses.replace(
        target,
        flash=dataclasses.replace(target.flash, origin=board.flash.origin),
        ram=dataclasses.replace(target.ram, origin=board.ram.origin),
    )


def copy_contents(source: Path, destination: Path) -> None:
    """Copies a folder without its templates and options: no times, no rights of the installed package."""
    ignored = shutil.ignore_patterns("*.j2", "options")
    shutil.copytree(source, destination, ignore=ignored, copy_function=shutil.copyfile, dirs_exist_ok=True)


def render(template: Path, destination: Path, **values: object) -> None:
    """Writes what a template makes of values; a name that the template wants and does not get is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    destination.write_text(environment.get_template(template.name).render(values), encoding="utf-8")
