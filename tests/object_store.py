"""Objects that tests have built: a source that was compiled before, to the letter and with all it includes, is reused.

Most tests build a project of their own, and nearly all of its sources are those of every other project, and of the
run before.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rct_tflite.firmware import toolchain as compilers
from rct_tflite.firmware.toolchain import Toolchain

Compile = Callable[..., list[Path]]
_INCLUDE = re.compile(rb"^[ \t]*#[ \t]*include\b[ \t]*(.*)$", re.MULTILINE)
_RULES = hashlib.sha256(Path(compilers.__file__).read_bytes()).hexdigest()  # every flag is in that file
KEPT_S = 3 * 24 * 3600.0
"""What nobody has used for so long is dropped."""
_NAME = re.compile(rb'["<]([^">]+)[">]')


class ObjectStore:
    """Stands before `Toolchain.compile()`; processes may share its folder.

    Args:
        folder: Where the objects are kept; each appears whole or not at all.
        compile_: What compiles: `Toolchain.compile`.
    """

    def __init__(self, folder: Path, compile_: Compile):
        self._folder, self._compile = folder, compile_
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # what another process is about to move
                if path.stat().st_mtime < time.time() - KEPT_S:
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()

    def compile(
        self,
        toolchain: Toolchain,
        sources: Sequence[Path],
        include_dirs: Sequence[Path],
        folder: Path,
        *,
        defines: Sequence[str] = (),
        sanitize: bool = False,
    ) -> list[Path]:
        """As `Toolchain.compile()`; only what the store does not hold goes to the compiler."""
        program = Path(toolchain.command[0]).stat()
        flags = repr((toolchain, program.st_size, program.st_mtime_ns, _RULES, defines, sanitize))
        kept = [self._folder / f"{object_key(source, include_dirs, flags)}.o" for source in sources]
        missing = {path: source for path, source in zip(kept, sources, strict=True) if not _use(path)}
        with tempfile.TemporaryDirectory(dir=self._folder) as staged:
            options = {"defines": defines, "sanitize": sanitize}
            built = self._compile(toolchain, [*missing.values()], include_dirs, Path(staged), **options)
            for path, object_ in zip(missing, built, strict=True):
                object_.replace(path)
        objects = [folder / f"{index}.o" for index in range(len(sources))]
        for path, object_ in zip(kept, objects, strict=True):
            shutil.copyfile(path, object_)
        return objects


def object_key(source: Path, include_dirs: Sequence[Path], flags: str) -> str:
    """Names an object by all that it is made of.

    Args:
        source: The C file.
        include_dirs: Folders of headers.
        flags: The compiler and what it is told.

    Returns:
        A digest of the flags, of how the folders lie to each other, and of the bytes of every file of these folders
        that the source can include, under whatever condition.
    """
    folders = [os.path.relpath(folder, source.parent) for folder in include_dirs]
    digest = hashlib.sha256(repr((flags, source.name, folders)).encode())
    seen, waiting = set(), [source]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        text = path.read_bytes()
        digest.update(repr((os.path.relpath(path, source.parent), len(text))).encode() + text)
        for included in map(_included, _INCLUDE.findall(text)):
            candidates = [Path(os.path.normpath(place / included)) for place in (path.parent, *include_dirs)]
            # One that is not there is a header of the compiler, whose version is in the flags.
            waiting += [candidate for candidate in candidates if candidate.is_file()]
    return digest.hexdigest()


def _use(path: Path) -> bool:
    """Whether an object is there; it then stays."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _included(words: bytes) -> str:
    name = _NAME.match(words)
    assert name is not None, f"a header whose name is a macro cannot be followed: {words!r}"
    return name[1].decode()
