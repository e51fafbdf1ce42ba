"""A drift that really hurts: what a device meets after it left the laboratory."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Images = npt.NDArray[np.float32]


def rotate(images: Images, degrees: float) -> Images:
    """Turns images (n, height, width, 1) from 0 to 1 about their centre, as a camera mounted askew sees them."""
    turned = ndimage.rotate(images, degrees, axes=(2, 1), reshape=False, order=1)
    return np.clip(turned, 0.0, 1.0).astype(np.float32)
