"""Where the hand-written C and the few templates lie."""

from pathlib import Path

from rct_tflite.errors import ToolchainError

PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
"""The folder of the `rct_tflite` package."""


def templates_folder() -> Path:
    """Returns the folder `firmware_templates`, in an installed package or in a checkout.

    A wheel holds it inside the package, a checkout beside the package.

    Raises:
        ToolchainError: If neither is there.

    Example:
        >>> templates_folder().name
        'firmware_templates'
    """
    places = (PACKAGE_FOLDER / "firmware_templates", PACKAGE_FOLDER.parent / "firmware_templates")
    for place in places:
        if place.is_dir():
            return place
    raise ToolchainError(
        f"The C sources of the firmware are missing. Expected a folder at {places[0]} or {places[1]}. "
        "Install rct-tflite again, or run from a whole checkout."
    )
