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
from tools.published_counting import tflm
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
CXX_FLAGS = ("-std=gnu++14", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics")
END = "counted_end"
CHAINS = ("vww", "kws")
"""Models without branches: the n-th kernel of TVM's code is the n-th layer, up to the op that has none."""
CONVOLUTIONS = ("arm_convolve_wrapper_s8", "arm_depthwise_conv_wrapper_s8")
"""Kernels that CMSIS-NN chooses a kernel by: a step of TVM's code that enters one is a layer of convolution."""


@dataclass(frozen=True)
class Built:
    """An image and what to mark in it.

    Attributes:
        image: Its file.
        start: The function that runs the model.
        steps: Functions that a layer each begins with; none if no layer is told apart.
        kernels: Of which a step must enter one to be a layer; none if each step is.
    """

    image: Path
    start: str
    steps: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()


class Builder:
    """Builds the models of one stack in a folder."""

    def __init__(self, stack: Stack, clones: Mapping[str, Path], folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self._toolchain = find_toolchain(stack.core, "gcc")
        self._sources = folder / "sources"
        self._includes = [self._sources / include for include in CMSIS_INCLUDES]
        self._macros: tuple[str, ...] = ()
        self._cxx_flags: tuple[str, ...] = CXX_FLAGS
        room = find_target(stack.core)
        memory = {name: dataclasses.replace(getattr(room, name), size=ROOM) for name in ("flash", "ram")}
        target = dataclasses.replace(room, stack_bytes=STACK_BYTES, **memory)
        render(TEMPLATES / "ports" / "cortex-m" / "link.ld.j2", folder / "link.ld", target=target)
        if stack.moved:
            self._take_out_project(clones[stack.generated.repository])
        else:
            take_out(clones[stack.cmsis.repository], stack.cmsis, [CMSIS_SOURCES, *CMSIS_INCLUDES], self._sources)
            (self._take_out_interpreter if stack.runtime else self._take_out_code)(clones)
        runtime: list[Path] = []
        if stack.moved or stack.runtime:
            (self._sources / "cmsis").symlink_to(".")  # code of the interpreter includes "cmsis/CMSIS/..."
            self._includes += [self._sources / include for include in tflm.INCLUDES]
            self._macros, self._cxx_flags = tflm.MACROS, (*CXX_FLAGS, *tflm.CXX_FLAGS)
            runtime = list(tflm.sources(self._sources))
        self._common = self._compile("common", [*self._kernel_sources(), *runtime])

    @property
    def compiler(self) -> str:
        """Name and version."""
        return f"{self._toolchain.name} {self._toolchain.version}"

    def build(self, model: str) -> Built:
        """Builds a model."""
        build = {"TVM": self._tvm, "ONNC": self._onnc, "TFLM": self._tflm, "Renesas": self._renesas}[
            self._stack.generator
        ]
        return build(model)

    def _take_out_project(self, clone: Path) -> None:
        stack = self._stack
        take_out(clone, stack.generated, [f"{stack.folder}/{folder}" for folder, _ in stack.moved], self._sources)
        for folder, place in stack.moved:
            (self._sources / place).parent.mkdir(exist_ok=True)
            (self._sources / stack.folder / folder).rename(self._sources / place)

    def _take_out_code(self, clones: Mapping[str, Path]) -> None:
        stack, clone = self._stack, clones[self._stack.generated.repository]
        take_out(clone, stack.generated, [stack.folder], self._sources)
        if stack.mended:
            path = f"{stack.folder.rpartition('/')[0]}/{stack.mended}.fixed"
            take_out(clone, stack.generated, [path], self._sources)
            kernel = self._sources / CMSIS_SOURCES / "ConvolutionFunctions" / f"{stack.mended}.c"
            kernel.write_bytes((self._sources / path).read_bytes())

    def _take_out_interpreter(self, clones: Mapping[str, Path]) -> None:
        stack = self._stack
        assert stack.runtime is not None
        models = [f"{stack.folder}/{folder}/{file}" for folder, file, _ in tflm.REFERENCE_MODELS.values()]
        names = [f"{model}.{suffix}" for model in models for suffix in ("cc", "h")]
        take_out(clones[stack.generated.repository], stack.generated, names, self._sources)
        clone = clones[stack.runtime.repository]
        take_out(clone, stack.runtime, tflm.RUNTIME, self._sources, without=tflm.NOT_COMPILED)

    def _tvm(self, model: str) -> Built:
        model_folder = self._sources / self._stack.folder / model
        sources = sorted((model_folder / "model/codegen/host/src").glob("*.c"))
        includes = [model_folder / name for name in ("include", "crt_config", "crt/include")]
        macros = (f"-DFLOAT_INPUT={int(model in FLOAT_INPUTS)}",)
        image = self._link(model, [*sources, DRIVERS / "tvm_driver.c"], includes, macros)
        text = "".join(source.read_text(encoding="utf-8") for source in sources)
        steps = re.findall(r"^  if \((tvmgen_default_\w+)\(", text, re.M) if model in CHAINS else []
        return Built(image, "tvmgen_default_run", tuple(dict.fromkeys(steps)), CONVOLUTIONS)

    def _onnc(self, model: str) -> Built:
        model_folder = self._sources / self._stack.folder / model / f"{model}01_code"
        (model_folder / "onnc_runtime.h").touch()  # as the submission's build does
        sources = [*sorted(model_folder.glob("*.cpp")), DRIVERS / "onnc_driver.c"]
        return Built(self._link(model, sources, [model_folder]), "onnc_main")

    def _tflm(self, model: str) -> Built:
        folder, file, array = tflm.REFERENCE_MODELS[model]
        includes = [self._sources / self._stack.folder / folder]
        sources = [includes[0] / f"{file}.cc", DRIVERS / "tflm_driver.cc"]
        return Built(self._link(model, sources, includes, (f"-DMODEL={array}",)), tflm.INVOKE, tflm.STEPS)

    def _renesas(self, model: str) -> Built:
        file, macro = tflm.RENESAS_MODELS[model]
        sources = [self._sources / tflm.RENESAS_FOLDER / f"{file}.cc", DRIVERS / "tflm_driver.cc"]
        macros = (f"-DMODEL={tflm.RENESAS_ARRAY}", f"-D{macro}")
        return Built(self._link(model, sources, (), macros), tflm.INVOKE)

    def _kernel_sources(self) -> list[Path]:
        folders = [self._sources / CMSIS_SOURCES / f"{name}Functions" for name in KERNELS]
        port = [TEMPLATES / "ports/cortex-m" / name for name in ("startup.c", "semihosting.c")]
        return [*(source for folder in folders for source in sorted(folder.glob("*.c"))), *port]

    def _link(self, name: str, sources: Sequence[Path], includes: Sequence[Path], macros: tuple[str, ...] = ()) -> Path:
        objects = [*self._compile(name, sources, includes, macros), *self._common]
        image = self._folder / f"{name}.elf"
        flags = ("--specs=nano.specs", "-nostartfiles", "-Wl,--gc-sections", f"-Wl,-e,{ENTRY}")
        script = ("-T", str(self._folder / "link.ld"))
        self._run(*map(str, objects), *flags, *script, "-lm", "-o", str(image))
        return image

    def _compile(
        self, name: str, sources: Sequence[Path], includes: Sequence[Path] = (), macros: tuple[str, ...] = ()
    ) -> list[Path]:
        folder = self._folder / name
        folder.mkdir()
        ports = (TEMPLATES / "app", TEMPLATES / "ports" / "cortex-m")
        flags = [*OURS, *self._stack.flags, *self._macros, *macros]
        flags += [f"-I{path}" for path in (*includes, *self._includes, *ports)]
        objects = []
        for index, source in enumerate(sources):
            language = self._stack.c_flags if source.suffix == ".c" else self._cxx_flags
            objects.append(folder / f"{index}.o")
            self._run(*flags, *language, "-c", str(source), "-o", str(objects[-1]))
        return objects

    def _run(self, *arguments: str) -> None:
        command = [*self._toolchain.command, *CORES[self._stack.core].gcc, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ToolchainError(
                f"{self.compiler} refused code of {self._stack.name}. Expected it to compile, as C and as C++. "
                f"Received:\n{done.stderr.strip()[:2000]}\nInstall gcc-arm-none-eabi, libnewlib-arm-none-eabi and "
                "libstdc++-arm-none-eabi-newlib."
            )
