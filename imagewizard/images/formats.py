"""Images as scoring and training know them, uint8 RGB arrays, from image files and to them.

picture.py keeps more of a file; what can be wrong with one is in image_errors.py.
"""

import numpy as np

from imagewizard.images import picture
from imagewizard.images.errors import ImageError as ImageError
from imagewizard.images.picture import Picture

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def is_image_name(name: str) -> bool:
    """Whether the name ends in one of SUFFIXES, in any case."""
    return name.lower().endswith(SUFFIXES)


def decode(data: bytes, max_pixels: int) -> np.ndarray:
    """The pixels of an image file, uint8 (H, W, 3) RGB, C-contiguous and writable: picture.decode without `keep`.

    Raises ImageError, and only that.
    """
    return picture.decode(data, max_pixels, keep=False).pixels


def encode(image: np.ndarray, format: str, quality: int | None = None) -> bytes:
    """The file bytes of a uint8 (H, W, 3) image in one of picture.FORMATS: picture.write of nothing but pixels."""
    return picture.write(Picture(image), format, quality)
