"""An output folder appears whole or not at all, and never replaces something by accident."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rct_tflite.errors import OutputFolderError


@contextlib.contextmanager
def staged_folder(out: Path, force: bool) -> Iterator[Path]:
    """Yields an empty folder to fill, and puts it at `out` if nothing was raised.

    Args:
        out: The final place.
        force: Whether a folder with content may be replaced.

    Raises:
        OutputFolderError: If `out` is a file, has content and `force` is off, or cannot be written.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not force)):
        raise OutputFolderError(
            f"The output folder {out} exists already, with other content. Expected a new or an empty folder. "
            "Choose another one, or replace it with --force."
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise OutputFolderError(f"Cannot write to {out.parent}: {error}. Choose another output folder.") from error
    try:
        staged.chmod(0o755)
        yield staged
        _swap(staged, out)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _swap(staged: Path, out: Path) -> None:
    """Moves the old folder aside before the new one takes its place, so that a failure loses neither."""
    old = Path(f"{staged}-old")
    if out.exists():
        out.replace(old)
    try:
        staged.replace(out)
    except OSError:
        if old.exists():
            old.replace(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
