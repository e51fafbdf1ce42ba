"""Builds the models of a published stack for its emulated core, with a program of ours around them."""

import dataclasses
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rct_tflite.errors import ToolchainError
from rct_tflite.firmware.project import render
from rct_tflite.firmware.toolchain import CORES, ENTRY, find_toolchain
from rct_tflite.spec.target_file import find_target
from tools.published_counting.stacks import CMSIS_INCLUDES, CMSIS_SOURCES, Stack, take_out

ROOM = 2 * 1024 * 1024
STACK_BYTES = 64 * 1024
TEMPLATES = Path(__file__).parents[2] / "firmware_templates"
DRIVERS = Path(__file__).parent
FLOAT_INPUTS = ("ad",)
"""Models that TVM's code hands floats, and quantises by itself."""
KERNELS = (
    *("Activation", "BasicMath", "Concatenation", "Convolution", "FullyConnected", "NNSupport", "Pooling", "Reshape"),
    "Softmax",
)
"""Folders of CMSIS-NN that the submissions compile, without "Functions"."""
# Alike functions stay apart, so that each call is entered where it is marked.
OURS = ("-w", "-g0", "-ffunction-sections", "-fdata-sections", "-fno-ipa-icf")
END = "counted_end"


@dataclass(frozen=True)
class Built:
    """An image and what to mark in it.

    Attributes:
        image: Its file.
        start: The function that runs the model.
        steps: What that calls, in order; only of TVM's code.
    """

    image: Path
    start: str
    steps: tuple[str, ...]


class Builder:
    """Builds the models of one stack in a folder."""

    def __init__(self, stack: Stack, clones: Mapping[str, Path], folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self._toolchain = find_toolchain(stack.core, "gcc")
        self._sources = folder / "sources"
        take_out(clones[stack.generated.repository], stack.generated, [stack.folder], self._sources)
        take_out(clones[stack.cmsis.repository], stack.cmsis, [CMSIS_SOURCES, *CMSIS_INCLUDES], self._sources)
        if stack.mended:
            self._mend(clones[stack.generated.repository])
        room = find_target(stack.core)
        memory = {name: dataclasses.replace(getattr(room, name), size=ROOM) for name in ("flash", "ram")}
        target = dataclasses.replace(room, stack_bytes=STACK_BYTES, **memory)
        render(TEMPLATES / "ports" / "cortex-m" / "link.ld.j2", folder / "link.ld", target=target)
        self._kernels = self._compile("kernels", self._kernel_sources(), (), ())

    @property
    def compiler(self) -> str:
        """Name and version."""
        return f"{self._toolchain.name} {self._toolchain.version}"

    def build(self, model: str) -> Built:
        """Builds a model."""
        return self._tvm(model) if self._stack.generator == "TVM" else self._onnc(model)

    def _tvm(self, model: str) -> Built:
        model_folder = self._sources / self._stack.folder / model
        sources = sorted((model_folder / "model/codegen/host/src").glob("*.c"))
        includes = [model_folder / name for name in ("include", "crt_config", "crt/include")]
        macros = (f"-DFLOAT_INPUT={int(model in FLOAT_INPUTS)}",)
        image = self._link(model, [*sources, DRIVERS / "tvm_driver.c"], includes, macros)
        text = "".join(source.read_text(encoding="utf-8") for source in sources)
        return Built(image, "tvmgen_default_run", tuple(re.findall(r"^  if \((tvmgen_default_\w+)\(", text, re.M)))

    def _onnc(self, model: str) -> Built:
        model_folder = self._sources / self._stack.folder / model / f"{model}01_code"
        (model_folder / "onnc_runtime.h").touch()  # as the submission's build does
        sources = [*sorted(model_folder.glob("*.cpp")), DRIVERS / "onnc_driver.c"]
        return Built(self._link(model, sources, [model_folder], ()), "onnc_main", ())

    def _mend(self, clone: Path) -> None:
        path = f"{self._stack.folder.rpartition('/')[0]}/{self._stack.mended}.fixed"
        take_out(clone, self._stack.generated, [path], self._sources)
        kernel = self._sources / CMSIS_SOURCES / "ConvolutionFunctions" / f"{self._stack.mended}.c"
        kernel.write_bytes((self._sources / path).read_bytes())

    def _kernel_sources(self) -> list[Path]:
        folders = [self._sources / CMSIS_SOURCES / f"{name}Functions" for name in KERNELS]
        port = [TEMPLATES / "ports/cortex-m" / name for name in ("startup.c", "semihosting.c")]
        return [*(source for folder in folders for source in sorted(folder.glob("*.c"))), *port]

    def _link(self, name: str, sources: Sequence[Path], includes: Sequence[Path], macros: tuple[str, ...]) -> Path:
        objects = [*self._compile(name, sources, includes, macros), *self._kernels]
        image = self._folder / f"{name}.elf"
        script = ("-T", str(self._folder / "link.ld"))
        self._run(
            *(
                *CORES[self._stack.core].gcc,
                *map(str, objects),
                "--specs=nano.specs",
                "-nostartfiles",
                "-Wl,--gc-sections",
            ),
            *(f"-Wl,-e,{ENTRY}", *script, "-lm", "-o", str(image)),
        )
        return image

    def _compile(
        self, name: str, sources: Sequence[Path], includes: Sequence[Path], macros: tuple[str, ...]
    ) -> list[Path]:
        folder = self._folder / name
        folder.mkdir()
        ports = (TEMPLATES / "app", TEMPLATES / "ports" / "cortex-m")
        folders = [*includes, *(self._sources / include for include in CMSIS_INCLUDES), *ports]
        objects = []
        for index, source in enumerate(sources):
            language = self._stack.c_flags if source.suffix == ".c" else ("-fno-exceptions", "-fno-rtti")
            objects.append(folder / f"{index}.o")
            self._run(
                *(
                    *CORES[self._stack.core].gcc,
                    *OURS,
                    *self._stack.flags,
                    *language,
                    *macros,
                    *(f"-I{path}" for path in folders),
                ),
                *("-c", str(source), "-o", str(objects[-1])),
            )
        return objects

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([*self._toolchain.command, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ToolchainError(
                f"{self.compiler} refused code of {self._stack.name}. Expected it to compile, as C and as C++. "
                f"Received:\n{done.stderr.strip()[:2000]}\nInstall gcc-arm-none-eabi with C++ and newlib."
            )
