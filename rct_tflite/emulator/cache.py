"""Where built helpers and compiler caches are kept between runs."""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path


@functools.cache
def cache_folder() -> Path:
    """Returns our folder in the user's cache, made if need be.

    Where the user's cache cannot be written, as in some containers, the folder lives as long as this process.
    """
    root = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        folder = (Path(root) if root else Path.home() / ".cache") / "rct-tflite"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        folder = Path(tempfile.mkdtemp(prefix="rct-tflite-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder
