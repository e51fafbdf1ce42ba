"""Objects are reused where nothing that they are made of differs, and only there."""

import os
import time

import pytest

from rct_tflite.errors import ToolchainError
from rct_tflite.firmware.toolchain import HOST, available_toolchains
from tests.object_store import KEPT_S, ObjectStore

FILES = {
    "kernels/kernel.c": '#include "near.h"\n#include <far.h>\nint kernel(void) { return NEAR + FAR + __LINE__; }\n',
    "kernels/near.h": '#ifdef WIDE\n  #include "../wide.def"\n#endif\n#define NEAR 1\nint kernel(void);\n',
    "kernels/other.h": "",
    "wide.def": "",
    "app/far.h": "#define FAR 2\n",
}
HOSTS = available_toolchains(HOST)
VARIANTS = [(tool, sanitize) for tool in HOSTS for sanitize in (False, True) if not (sanitize and tool.name == "zig")]


class Compiler:
    """A compiler that notes what it was asked for."""

    def __init__(self, compile_anew):
        self.compile_anew, self.asked = compile_anew, 0

    def __call__(self, toolchain, sources, *args, **options):
        self.asked += len(sources)
        return self.compile_anew(toolchain, sources, *args, **options)


@pytest.fixture
def compiler(compile_anew):
    return Compiler(compile_anew)


@pytest.fixture
def store(tmp_path, compiler):
    return ObjectStore(tmp_path / "objects", compiler)


def compiled(store, project, files=None, toolchain=HOSTS[0], **options) -> bytes:
    for name, text in {**FILES, **(files or {})}.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    output = project / "objects"
    output.mkdir()
    folders = [project / folder for folder in ("kernels", "app")]
    (object_,) = store.compile(toolchain, [project / "kernels" / "kernel.c"], folders, output, **options)
    return object_.read_bytes()


@pytest.mark.parametrize(("toolchain", "sanitize"), VARIANTS, ids=[f"{t.name}-{s}" for t, s in VARIANTS])
def test_what_is_reused_is_what_would_be_compiled(store, compiler, tmp_path, toolchain, sanitize):
    options = {"toolchain": toolchain, "sanitize": sanitize}
    first = compiled(store, tmp_path / "a", **options)
    again = compiled(store, tmp_path / "deeper" / "b", {"kernels/other.h": "never included"}, **options)
    assert compiler.asked == 1
    anew = compiled(ObjectStore(tmp_path / "empty", compiler), tmp_path / "c", **options)
    assert first == again == anew


@pytest.mark.parametrize(
    "files",
    [
        {"kernels/kernel.c": "\n" + FILES["kernels/kernel.c"]},
        {"kernels/near.h": FILES["kernels/near.h"].replace("1", "3")},
        {"wide.def": "// nobody defines WIDE, but it could be\n"},
        {"app/far.h": FILES["app/far.h"] + "\n"},
        {"kernels/far.h": "#define FAR 5\n"},
    ],
    ids=["source", "header", "conditional", "other folder", "shadows"],
)
def test_any_other_byte_is_compiled(store, compiler, tmp_path, files):
    compiled(store, tmp_path / "a")
    compiled(store, tmp_path / "b", files)
    assert compiler.asked == 2


@pytest.mark.parametrize("options", [{"defines": ["WIDE"]}, {"sanitize": True}], ids=str)
def test_any_other_flag_is_compiled(store, compiler, tmp_path, options):
    compiled(store, tmp_path / "a")
    compiled(store, tmp_path / "b", **options)
    assert compiler.asked == 2


def test_what_nobody_uses_is_dropped(store, compiler, tmp_path):
    compiled(store, tmp_path / "a")
    (kept,) = (tmp_path / "objects").iterdir()
    for age, left in ((0.9, [kept]), (1.1, [])):
        last = time.time() - age * KEPT_S
        os.utime(kept, (last, last))
        ObjectStore(tmp_path / "objects", compiler)
        assert [*(tmp_path / "objects").iterdir()] == left


def test_what_is_refused_is_not_kept(store, tmp_path):
    wrong = {"kernels/near.h": "#define NEAR unknown\n"}
    for attempt in ("a", "b"):
        with pytest.raises(ToolchainError, match="unknown"):
            compiled(store, tmp_path / attempt, wrong)
    assert [*(tmp_path / "objects").iterdir()] == []
