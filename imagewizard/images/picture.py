"""A picture with what belongs to it (bit depth, grey, alpha, ICC profile, EXIF), as it is read from an image file."""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from imagewizard.images import decoding
from imagewizard.images.errors import explained
from imagewizard.images.exif import Tags


@dataclass(frozen=True)
class Picture:
    """An image to denoise, and what goes past the denoiser into the file that is written."""

    pixels: np.ndarray
    """uint8 or uint16, (H, W, 1 or 3), grey or RGB, upright, C-contiguous."""
    alpha: np.ndarray | None = None
    """(H, W), of the type of `pixels`."""
    icc: bytes | None = None
    """The ICC profile, of the colour space of `pixels`."""
    exif: bytes | None = None
    """The EXIF structure with its prefix `Exif\\0\\0`, without orientation."""


def decode(data: bytes, max_pixels: int, keep: bool) -> Picture:
    """The picture in an image file (`data`: bytes or any buffer). Raises ImageError, and only that.

    With `keep` it is all that decoding.stored gives. An ICC profile stays if it is of the pixels' colour space (that of
    a CMYK file does not fit the RGB made of it). EXIF stays without orientation, which has been applied, and without
    its thumbnail. XMP is dropped, and so is a resolution (DPI) outside EXIF.
    Without `keep` it is the pixels alone, in 8 bits.
    """
    data = bytes(data)
    with explained(data):
        stored = decoding.stored(data, max_pixels)
        pixels, alpha = decoding.split_alpha(stored.samples)
        if not keep:
            return Picture(decoding.eight_bits(pixels))
        return Picture(pixels, alpha, _fitting(stored.icc, pixels), _exif(stored.tags, pixels))


def decode_rgb(data: bytes, max_pixels: int) -> np.ndarray:
    """The pixels of an image file as scoring and training want them. Raises ImageError, and only that.

    uint8 (H, W, 3), C-contiguous and writable. Alpha is dropped (compositing would invent colours, and the edges of the
    mask would be scored as image detail), grey is R = G = B, 16 bits are rounded.
    """
    data = bytes(data)
    with explained(data):
        return decoding.rgb8(decoding.stored(data, max_pixels).samples)


def _exif(stored: bytes | None, pixels: np.ndarray) -> bytes | None:
    """The EXIF structure to keep, out of the structure that a file stores; None if that says nothing, or is broken."""
    if stored is None:
        return None
    height, width = pixels.shape[:2]
    with suppress(ValueError):
        tags = Tags.read(stored).about_the_picture(width, height)
        return tags.exif() if tags.main else None
    return None


def _fitting(icc: object, pixels: np.ndarray) -> bytes | None:
    """The profile, if it is one whose data colour space (ICC.1:2022, 7.2.6) is that of the pixels."""
    space = b"GRAY" if pixels.shape[2] == 1 else b"RGB "
    return icc if isinstance(icc, bytes) and icc[16:20] == space else None
