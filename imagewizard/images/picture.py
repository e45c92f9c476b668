"""A picture with what belongs to it (bit depth, grey, alpha, metadata), as it is read from an image file."""

from dataclasses import dataclass, field

import numpy as np

from imagewizard.images import decoding, metadata_places
from imagewizard.images.errors import explained
from imagewizard.images.metadata import Metadata


@dataclass(frozen=True)
class Picture:
    """An image to denoise, and what goes past the denoiser into the file that is written."""

    pixels: np.ndarray
    """uint8 or uint16, (H, W, 1 or 3), grey or RGB, upright, C-contiguous; perhaps not writable."""
    alpha: np.ndarray | None = None
    """(H, W), of the type of `pixels`."""
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()
    """What the file had and the picture lacks, and what is uncertain about it: for the row's notes."""

    @property
    def nbytes(self) -> int:
        """What it takes in memory, but for a few bytes."""
        return self.pixels.nbytes + (0 if self.alpha is None else self.alpha.nbytes) + self.metadata.nbytes


def decode(data: bytes, max_pixels: int, keep: bool) -> Picture:
    """The picture in an image file (`data`: bytes or any buffer). Raises ImageError, and only that.

    With `keep` it is all that decoding.stored gives, with the file's metadata (Metadata.upright).
    Without `keep` it is the pixels alone, in 8 bits.
    """
    data = bytes(data)
    with explained(data):
        stored = decoding.stored(data, max_pixels)
        pixels, alpha = decoding.split_alpha(stored.samples)
        if not keep:
            return Picture(decoding.eight_bits(pixels), notes=stored.notes)
        height, width, channels = pixels.shape
        found, lacking = metadata_places.found(data, stored)
        kept, lost = found.upright(width, height, stored.orientation, channels == 1)
        return Picture(pixels, alpha, kept, (*stored.notes, *lacking, *lost))


def decode_rgb(data: bytes, max_pixels: int) -> np.ndarray:
    """The pixels of an image file as scoring and training want them. Raises ImageError, and only that.

    uint8 (H, W, 3), C-contiguous and writable. Alpha is dropped (compositing would invent colours, and the edges of the
    mask would be scored as image detail), grey is R = G = B, 16 bits are rounded.
    """
    data = bytes(data)
    with explained(data):
        return np.require(decoding.rgb8(decoding.stored(data, max_pixels).samples), requirements="W")
