"""16-bit colour, which Pillow has no mode for: read from PNG and TIFF through libpng and libtiff, written to PNG.

imagecodecs is imported where it is used: most images are read without it.
"""

import numpy as np

from imagewizard.images.exif import Tags

_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA, _FORMAT = 258, 259, 262, 277, 284, 338, 339  # TIFF 6.0
_COMPRESSIONS = {1, 5, 8, 32773, 32946, 34925, 50000}  # of libtiff's, those that leave samples as they are
_WHITE_IS_ZERO = 0
_ASSOCIATED, _UNASSOCIATED = 1, 2
_MOST_SAMPLES = 6  # as Pillow has it; a header may claim 65,535


def read_png(data: bytes) -> np.ndarray:
    """The samples of a PNG, uint8 or uint16, (H, W, 1-4), a transparent colour (tRNS) as alpha. Orientation as stored.

    Raises ValueError for what libpng refuses, sides over 1,000,000 pixels among it.
    """
    import imagecodecs

    try:
        samples = imagecodecs.png_decode(data)
    # A PngError's text is freed before Python asks for it: it may be other text, or bytes that are no text.
    except (imagecodecs.PngError, UnicodeDecodeError) as error:
        raise ValueError("libpng cannot decode its pixels") from error
    return samples if samples.ndim == 3 else samples[:, :, None]


def write_png(samples: np.ndarray) -> bytes:
    """The file bytes of uint16 (H, W, 1-4), without metadata."""
    import imagecodecs

    # CPU time and size of a 512x512 photo: so 14 ms, 1286 kB; libpng's choice of filters 47 ms, 1316 kB.
    rle, sub = imagecodecs.PNG.STRATEGY.RLE, imagecodecs.PNG.FILTER.SUB
    # It refuses the strides of a single channel.
    image = samples[:, :, 0] if samples.shape[2] == 1 else samples
    return bytes(imagecodecs.png_encode(image, level=1, strategy=rle, filter=sub))


def is_deep(layout: Tags) -> bool:
    """Whether a TIFF's pixels are of 16 unsigned bits and more than one channel, grey or RGB in front.

    Not with the rare compressions that libtiff lacks.
    """
    samples = layout.integers(_SAMPLES, (1,))[0]
    return (
        set(layout.integers(_BITS)) == {16}
        and layout.integers(_COMPRESSION, (1,))[0] in _COMPRESSIONS
        and set(layout.integers(_FORMAT, (1,))) == {1}
        and 1 < samples <= _MOST_SAMPLES
        and samples >= _colours(layout)
    )


def _colours(layout: Tags) -> int:
    """Channels without the extra ones: 1 or 3; more than any image has if it is neither grey nor RGB."""
    return {0: 1, 1: 1, 2: 3}.get(layout.integers(_PHOTOMETRIC, (-1,))[0], _MOST_SAMPLES + 1)


def read_tiff(data: bytes, layout: Tags, width: int, height: int) -> np.ndarray:
    """The samples of a TIFF that is_deep, uint16 (H, W, 1-4), black is zero. Orientation as stored.

    Alpha is the first of the extra channels if it is marked as alpha; all others are dropped.
    Raises TiffError, ValueError or MemoryError for what libtiff refuses, a size other than the given one among it.
    """
    import imagecodecs

    count = layout.integers(_SAMPLES)[0]
    is_planar = layout.integers(_PLANAR, (1,))[0] == 2
    # The array is made here, so that libtiff cannot allocate more, whatever the header says.
    out = np.empty((count, height, width) if is_planar else (height, width, count), np.uint16)
    samples = imagecodecs.tiff_decode(data, out=out)
    if is_planar:
        samples = np.moveaxis(samples, 0, -1)
    colours, extra = _colours(layout), layout.integers(_EXTRA, (0,))[0]
    has_alpha = samples.shape[2] > colours and extra in (_ASSOCIATED, _UNASSOCIATED)
    samples = np.ascontiguousarray(samples[:, :, : colours + has_alpha])
    if layout.integers(_PHOTOMETRIC)[0] == _WHITE_IS_ZERO:
        samples[:, :, 0] = 65535 - samples[:, :, 0]
    if has_alpha and extra == _ASSOCIATED:
        samples[:, :, :-1] = divided(samples[:, :, :-1], samples[:, :, -1:])
    return samples


def spread(samples: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned samples of so many bits as round(white v / (2^bits - 1)): uint8 if it is up to 8 bits, else uint16."""
    dtype, white = (np.uint8, 255) if bits <= 8 else (np.uint16, 65535)
    most = 2**bits - 1
    if white == most:
        return samples.astype(dtype, copy=False)
    if bits <= 32:  # at most 65535 * 2^32 and a half, which fits
        values = (samples.astype(np.uint64) * np.uint64(white) + np.uint64(most // 2)) // np.uint64(most)
    else:
        step = np.uint64(most // white)
        values = samples // step + (samples % step > step // np.uint64(2))
    return np.minimum(values, white).astype(dtype)


def divided(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours without the alpha that they were multiplied with, all uint8 or uint16; white at most."""
    white = int(np.iinfo(colours.dtype).max)
    # greatest: 65535 * 65535 + 32767, which fits
    values = (colours * np.uint32(white) + alpha // 2) // np.maximum(alpha, 1)
    return np.minimum(values, white).astype(colours.dtype)
