"""Which published stacks are counted, from which sources and with which flags; takes the sources out of git clones."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rct_tflite.errors import DataError

MODELS = ("vww", "ic", "kws", "ad")
CMSIS = "CMSIS_5"
OWNERS = {CMSIS: "ARM-software", "tensorflow_mbed_test": "MarkoSagadin"}
"""On GitHub; mlcommons of the others."""
CMSIS_INCLUDES = ("CMSIS/NN/Include", "CMSIS/Core/Include", "CMSIS/DSP/Include")
CMSIS_SOURCES = "CMSIS/NN/Source"


@dataclass(frozen=True)
class Pin:
    """A commit of a repository; `repository` is the last part of its name."""

    repository: str
    commit: str

    def __str__(self) -> str:
        return f"{self.repository} {self.commit[:8]}"


@dataclass(frozen=True)
class Stack:
    """A published stack.

    Attributes:
        name: As in the table of results.
        core: That its code was generated for.
        generator: Of the code, "TVM" or "ONNC"; "TFLM" if an interpreter runs the models, "Renesas" if it is theirs.
        generated: Where the generated code of its models lies, or the models.
        folder: Of the models, in there.
        cmsis: The kernels that it was built with; its code includes their headers where it calls none, too.
        flags: Of C and C++, as its build files have them.
        c_flags: Of C.
        mended: A file of the submission, beside `folder`, that takes the place of one in `cmsis`; empty for none.
        runtime: Where the interpreter lies; None for generated code.
        moved: Folders within `folder` that hold all sources, and where those lie in other stacks.
    """

    name: str
    core: str
    generator: str
    generated: Pin
    folder: str
    cmsis: Pin
    flags: tuple[str, ...]
    c_flags: tuple[str, ...]
    mended: str = ""
    runtime: Pin | None = None
    moved: tuple[tuple[str, str], ...] = ()

    @property
    def pins(self) -> tuple[Pin, ...]:
        """All that it is built from."""
        pins = (self.generated, self.runtime or self.generated, self.cmsis)
        return tuple(dict.fromkeys(pins))


_OCTOML = Pin("tiny_results_v1.0", "c7761cf84076d601c4a0ed2ecc51e77d40696ed2")
_SKYMIZER = Pin("tiny_results_v1.1", "c32ef94d19429ef1d318e9c7a60002a4bd70e11b")
_REFERENCE = Pin("tiny_results_v0.5", "d75aef63526dcbb30632f0529411f0219ed1003e")
_RENESAS = Pin("tiny_results_v0.7", "64623f41b6721bdff6d0133a524c63a003123b3b")
_TFLM = Pin("tensorflow_mbed_test", "0485922a39f894bf50840289dc4729f2df61ea45")
_CMSIS_2020 = Pin(CMSIS, "1150e71e07c79b538efd842aba5b210a31827ae5")
_CMSIS_2022 = Pin(CMSIS, "51263182d16c92649a48144ba56c0945f9fce60e")
_CMSIS_2021 = Pin(CMSIS, "b9667965e0c41d7ee0c63983beccc9b8cd6b0f7f")
_MENDED = "arm_convolve_HWC_q7_fast_nonsquare"

_MBED_FLAGS = ("-fomit-frame-pointer", "-fno-delete-null-pointer-checks", "-funsigned-char")
_ZEPHYR_FLAGS, _ZEPHYR_C_FLAGS = ("-O2",), ("-std=c99",)
"""CONFIG_SPEED_OPTIMIZATIONS. That memcpy() is expanded in place is known from the times: with a call for each four
bytes an instruction would take less than a third of a cycle."""

STACKS = (
    Stack(
        # The submission tells how TensorFlow 2.3.1 is exported for mbed, not the outcome: this is another's export of
        # 2.3.0, which prints a line for each op unless strings are stripped. The commit of CMSIS-NN is the one that
        # 2.3.1 loads (notes of NXP's eIQ 2.3.1). The flags are mbed's usual profile.
        name="TFLM 2.3.1 + CMSIS-NN (mbed)",
        core="cortex-m4",
        generator="TFLM",
        generated=_REFERENCE,
        folder="closed/reference/code",
        cmsis=_CMSIS_2020,
        flags=("-Os", *_MBED_FLAGS, "-DTF_LITE_STRIP_ERROR_STRINGS"),
        c_flags=("-std=gnu11",),
        runtime=_TFLM,
    ),
    Stack(
        name="TFLM + CMSIS-NN",
        core="cortex-m33",
        generator="Renesas",
        generated=_RENESAS,
        folder="closed/renesas/code/EK_RA6M4",
        cmsis=_RENESAS,
        flags=("-O3", "-fsigned-char"),  # .cproject, the configuration that is launched
        c_flags=("-std=gnu11",),
        moved=(
            ("src/tensorflow/lite/micro/tools/make/downloads/cmsis/CMSIS", "CMSIS"),
            ("ra/arm/CMSIS_5/CMSIS/Core", "CMSIS/Core"),
            ("src/tensorflow", "tensorflow"),
            ("src/third_party", "third_party"),
        ),
    ),
    Stack(
        name="microTVM + CMSIS-NN",
        core="cortex-m4",
        generator="TVM",
        generated=_OCTOML,
        folder="closed/OctoML/code/microtvm_cmsis_nn/NUCLEO_L4R5ZI",
        cmsis=_CMSIS_2022,
        flags=_ZEPHYR_FLAGS,
        c_flags=_ZEPHYR_C_FLAGS,
    ),
    Stack(
        name="microTVM + CMSIS-NN",
        core="cortex-m33",
        generator="TVM",
        generated=_OCTOML,
        folder="closed/OctoML/code/microtvm_cmsis_nn/NRF5340DK",
        cmsis=_CMSIS_2022,
        flags=_ZEPHYR_FLAGS,
        c_flags=_ZEPHYR_C_FLAGS,
    ),
    Stack(
        name="microTVM native",
        core="cortex-m4",
        generator="TVM",
        generated=_OCTOML,
        folder="closed/OctoML/code/microtvm_native/NUCLEO_L4R5ZI",
        cmsis=_CMSIS_2022,
        flags=_ZEPHYR_FLAGS,
        c_flags=_ZEPHYR_C_FLAGS,
    ),
    Stack(
        name="ONNC + CMSIS-NN (zephyr)",
        core="cortex-m4",
        generator="ONNC",
        generated=_SKYMIZER,
        folder="closed/Skymizer/code/NUCLEO_L4R5ZI-zephyr",
        cmsis=_CMSIS_2021,
        flags=_ZEPHYR_FLAGS,
        c_flags=_ZEPHYR_C_FLAGS,
        mended=_MENDED,
    ),
    Stack(
        name="ONNC + CMSIS-NN (mbed)",
        core="cortex-m4",
        generator="ONNC",
        generated=_SKYMIZER,
        folder="closed/Skymizer/code/NUCLEO_L4R5ZI-mbed_os",
        cmsis=_CMSIS_2021,
        flags=("-O3", *_MBED_FLAGS),  # release.json
        c_flags=("-std=gnu11",),
        mended=_MENDED,
    ),
)


def repositories() -> tuple[str, ...]:
    """Returns the repositories that all stacks together need."""
    return tuple(dict.fromkeys(pin.repository for stack in STACKS for pin in stack.pins))


def find_clones(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Returns the git folder of each repository: `NAME/.git`, `NAME`, or what ends in `NAME/repo`.

    Raises:
        DataError: If one is missing.
    """
    clones = {}
    for name in names:
        mirrored = [path for pattern in ("repo", "repo/.git") for path in sorted(folder.glob(f"*{name}/{pattern}"))]
        candidates = [folder / name / ".git", folder / name, *mirrored]
        found = next((candidate for candidate in candidates if (candidate / "HEAD").exists()), None)
        if found is None:
            raise DataError(
                f"A clone is missing. Expected {folder / name}. Received: nothing there. git clone "
                f"https://github.com/{OWNERS.get(name, 'mlcommons')}/{name} into that folder."
            )
        clones[name] = found
    return clones


def take_out(clone: Path, pin: Pin, paths: Sequence[str], destination: Path, without: Sequence[str] = ()) -> None:
    """Writes the files of some folders of a commit.

    Args:
        clone: Git folder.
        pin: The commit.
        paths: Folders or files in the repository; those that the commit lacks are passed over.
        destination: Where they go, under their paths in the repository.
        without: Names of folders to pass over.

    Raises:
        DataError: If the clone lacks the commit, or none of the paths is in there.
    """
    listed = _git(clone, pin, "ls-tree", "-r", "-z", pin.commit, "--", *paths).split(b"\0")
    found = [entry.partition(b"\t")[2].decode() for entry in listed if entry]
    names = [name for name in found if not set(without) & set(name.split("/"))]
    if not names:
        raise DataError(f"{pin} has no {', '.join(paths)}. Expected files. Received: none. Is {clone} its clone?")
    for name, content in zip(names, _contents(clone, pin, names), strict=True):
        path = destination / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _contents(clone: Path, pin: Pin, names: Sequence[str]) -> Iterator[bytes]:
    asked = "".join(f"{pin.commit}:{name}\n" for name in names).encode()
    answer = _git(clone, pin, "cat-file", "--batch", stdin=asked)
    position = 0
    for name in names:
        end = answer.index(b"\n", position)
        size = answer[position:end].rpartition(b" ")[2]
        if not size.isdigit():
            raise DataError(f"{clone} lacks a file of {pin}. Expected {name}. Received: {answer[position:end]!r}.")
        position = end + 1 + int(size) + 1
        yield answer[end + 1 : position - 1]


def _git(clone: Path, pin: Pin, *arguments: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(["git", f"--git-dir={clone}", *arguments], input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        raise DataError(
            f"Cannot read {pin} in {clone}. Expected a clone that holds the commit. "
            f"Received: {done.stderr.decode(errors='replace').strip()}. Fetch it."
        )
    return done.stdout
