"""An output folder appears whole or not at all, and never replaces something by accident."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rct_tflite.errors import OutputFolderError
from rct_tflite.firmware.manifest import MANIFEST_FILE


@contextlib.contextmanager
def staged_folder(out: Path, force: bool) -> Iterator[Path]:
    """Yields an empty folder to fill, and puts it at `out` if nothing was raised.

    If something was, nothing stays: neither the staged folder nor the parents that were made for it.

    Args:
        out: The final place. A symbolic link to a folder stays a link.
        force: Whether an earlier export may be replaced.

    Raises:
        OutputFolderError: If `out` has content and is not to be replaced, or cannot be written.
    """
    made: list[Path] = []
    staged = None
    try:
        try:
            place = out.resolve()
            _check_free(out, place, force)
            made = [parent for parent in place.parents if not parent.exists()]
            place.parent.mkdir(parents=True, exist_ok=True)
            staged = Path(tempfile.mkdtemp(prefix=".rct-tflite-", dir=place.parent))
            staged.chmod(0o755)
        except (OSError, RuntimeError) as error:  # RuntimeError: a symbolic link to itself
            raise _unwritable(out, error) from error
        yield staged
        _publish(staged, out, place, force)
        made = []
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):  # somebody else has put something there meanwhile
                parent.rmdir()


def _check_free(out: Path, place: Path, force: bool) -> None:
    if place == Path.cwd() or place in Path.cwd().parents:
        raise OutputFolderError(
            f"The output folder {out} is the current folder, or holds it. Expected a folder that is made anew. "
            "Give it a name of its own, such as --out build/kws."
        )
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        if not (place / MANIFEST_FILE).is_file():
            raise OutputFolderError(
                f"The output folder {out} exists already, with other content than an earlier export. Expected a new "
                "or an empty folder. Choose another one; --force replaces earlier exports only."
            )
        if not force:
            raise OutputFolderError(
                f"The output folder {out} exists already, with an earlier export. Expected a new or an empty folder. "
                "Choose another one, or replace it with --force."
            )


def _publish(staged: Path, out: Path, place: Path, force: bool) -> None:
    """Renames the folder; an old one moves aside first, so that a failure loses neither."""
    old = Path(f"{staged}-old")
    try:
        # What came there while the folder was filled counts as well.
        _check_free(out, place, force)
        if place.exists():
            place.replace(old)
        staged.replace(place)
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        if old.exists() and not place.exists():
            old.replace(place)
        shutil.rmtree(old, ignore_errors=True)


def _unwritable(out: Path, error: Exception) -> OutputFolderError:
    return OutputFolderError(f"Cannot write {out}: {error}. Choose another output folder.")
