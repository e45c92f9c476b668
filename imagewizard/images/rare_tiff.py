"""TIFFs of kinds that Pillow refuses or gets wrong, read by tifffile: odd depths, signed integers, LAB, codecs.

tifffile and imagecodecs are imported where they are used: most images are read without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import UnidentifiedImageError

from imagewizard.images import colour, deep_colour, lab, segment_sizes
from imagewizard.images.errors import ImageError
from imagewizard.images.exif import ICC_PROFILE, ORIENTATION, Tags
from imagewizard.images.orientation import upright

if TYPE_CHECKING:
    import tifffile

_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA, _FORMAT = 258, 259, 262, 277, 284, 338, 339  # TIFF 6.0
_WHITE_POINT, _SUBSAMPLING, _NOT_COMPRESSED = 318, 530, 1
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_LABS = (lab.CIELAB, lab.ICCLAB, lab.ITULAB)
_COLOURS |= dict.fromkeys(_LABS, 3)
"""Channels without the extra ones, of each photometric interpretation that is decoded."""
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED, _COMPLEX_INTEGER, _COMPLEX = 1, 2, 3, 4, 5, 6
_ASSOCIATED, _UNASSOCIATED = 1, 2
_MOST_SAMPLES = 6  # as deep_colour has it
_JPEG = (6, 7, 34892, 33007)
"""Compressions whose decoders turn YCbCr into RGB."""
_LERC = 34887
_PILLOWS = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000}
"""Compressions that Pillow's libtiff has."""
_PILLOWS_PLANES = {(_RGB, 3), (_CMYK, 4)} | {(photometric, 1) for photometric in _COLOURS}
"""Photometric interpretations and numbers of samples that Pillow reads from separate planes."""
_FIX = "convert it to 8 or 16 bits of grey or RGB"


def is_rare(layout: Tags) -> bool:
    """Whether a TIFF is of a kind that Pillow decodes wrongly, or with a loss; it may refuse others, too."""
    bits, photometric = layout.integers(_BITS, (1,)), layout.integers(_PHOTOMETRIC, (-1,))[0]
    samples, compression = layout.integers(_SAMPLES, (1,))[0], layout.integers(_COMPRESSION, (1,))[0]
    if _is_subsampled(layout) and compression == _NOT_COMPRESSED:
        return True
    if photometric == lab.CIELAB and (compression in _JPEG or _WHITE_POINT in layout.main):
        return True
    if compression not in _PILLOWS:
        return True
    if layout.integers(_PLANAR, (1,))[0] == 2 and (photometric, samples) not in _PILLOWS_PLANES:
        return True
    depths = {1, 2, 4, 8, 16} if (photometric, samples) == (_BLACK_IS_ZERO, 1) else {1, 2, 4, 8}
    return set(layout.integers(_FORMAT, (1,))) != {_UNSIGNED} or not set(bits) <= depths


def _is_subsampled(layout: Tags) -> bool:
    """Whether several pixels share their chroma."""
    is_ycbcr = layout.integers(_PHOTOMETRIC, (-1,))[0] == _YCBCR
    return is_ycbcr and layout.integers(_SUBSAMPLING, (2, 2)) != (1, 1)


def mode(layout: Tags) -> str:
    """CMYK and LAB, as Pillow calls them; nothing for other colours."""
    photometric = layout.integers(_PHOTOMETRIC, (-1,))[0]
    return "LAB" if photometric in _LABS else {_CMYK: "CMYK"}.get(photometric, "")


def read(data: bytes, layout: Tags, width: int, height: int) -> np.ndarray:
    """The samples, uint8 or uint16, (H, W, 1-4): grey or RGB, and alpha; black is zero. Orientation as stored.

    Up to 8 bits are spread over 0-255, more over 0-65535; integers of no certain scale (signed; grey of over 16 bits)
    count as they are. LAB becomes sRGB by LittleCMS.
    Alpha is the first of the extra channels if it is marked as alpha; all others are dropped.

    Raises ImageError for kinds that are not decoded, UnidentifiedImageError for a broken directory, ValueError and
    others for broken pixels.
    """
    import io

    import tifffile

    try:
        page = tifffile.TiffFile(io.BytesIO(data)).pages[0]
    except (tifffile.TiffFileError, IndexError) as error:
        raise UnidentifiedImageError("its directory is broken") from error
    assert isinstance(page, tifffile.TiffPage)
    _check(page, layout)
    if _is_subsampled(layout) and page.compression not in _JPEG:
        return _subsampled(data, layout)
    if (page.imagewidth, page.imagelength) != (width, height):
        raise ValueError("its size is given twice")
    _check_segments(page, data)
    samples = page.asarray(squeeze=False, maxworkers=1)
    # separate planes, depth, height, width, samples side by side
    samples = np.moveaxis(samples[:, 0], 0, 2).reshape(*samples.shape[2:4], -1)
    photometric, bits = layout.integers(_PHOTOMETRIC)[0], layout.integers(_BITS, (1,))
    if photometric == _YCBCR and page.compression in _JPEG:
        photometric = _RGB
    count, extra = _COLOURS[photometric], layout.integers(_EXTRA, (0,))[0]
    samples, more = samples[:, :, :count], samples[:, :, count : count + 1]
    has_alpha = more.shape[2] > 0 and extra in (_ASSOCIATED, _UNASSOCIATED)
    depth = max(bits)
    if has_alpha and extra == _ASSOCIATED and samples.dtype.kind != "i" and photometric not in (_PALETTE, *_LABS):
        samples, depth = _divided(samples, more, depth), 8 if depth <= 8 else 16
    if photometric in _LABS:
        colours = lab.to_srgb(samples, photometric, depth, _white(page))
    else:
        colours = _colours(samples, photometric, depth, page.colormap)
    if photometric == _CMYK:
        colours = colour.rgb_of_cmyk(colours, layout.bytes_of(ICC_PROFILE))
    if has_alpha:
        alpha = _counted(more) if more.dtype.kind == "i" else deep_colour.spread(more, max(bits))
        colours = np.concatenate([colours, alpha.astype(colours.dtype)], axis=2)
    return np.ascontiguousarray(colours)


def _subsampled(data: bytes, layout: Tags) -> np.ndarray:
    """RGB by libtiff, uint8, as stored."""
    import imagecodecs

    rgb = np.ascontiguousarray(imagecodecs.tiff_decode(data, asrgb=True)[:, :, :3])
    # libtiff has set it upright, but of a quarter's turn it does the flip alone, which undoes itself
    return upright(rgb, {2: 2, 3: 3, 4: 4, 6: 2, 7: 3, 8: 4}.get(layout.integers(ORIENTATION, (1,))[0], 1))


def _check(page: tifffile.TiffPage, layout: Tags) -> None:
    """Raises ImageError for a kind that is not decoded, and says which it is."""
    name = _numbers_not_decoded(page, layout) or _pixels_not_decoded(page, layout)
    if name is not None:
        raise ImageError(f"unsupported pixels: TIFF with {name}; {_FIX}")


def _numbers_not_decoded(page: tifffile.TiffPage, layout: Tags) -> str | None:
    bits, kind = layout.integers(_BITS, (1,)), layout.integers(_FORMAT, (1,))[0]
    if kind in (_FLOAT, _COMPLEX, _COMPLEX_INTEGER):
        return f"{bits[0]}-bit {'floating point' if kind == _FLOAT else 'complex'} samples, which have no certain white"
    return f"{', '.join(map(str, bits))} bits a channel" if page.dtype is None else None


def _pixels_not_decoded(page: tifffile.TiffPage, layout: Tags) -> str | None:
    import tifffile

    photometric, bits = layout.integers(_PHOTOMETRIC, (-1,))[0], layout.integers(_BITS, (1,))[0]
    if photometric == -1:
        raise UnidentifiedImageError("its directory does not say what its pixels are")
    if photometric not in _COLOURS:
        names = {item.value: item.name for item in tifffile.PHOTOMETRIC}
        return f"pixels of the kind {names.get(photometric, photometric)}"
    samples = layout.integers(_SAMPLES, (1,))[0]
    if not _COLOURS[photometric] <= samples <= _MOST_SAMPLES:
        return f"{samples} channels"
    if photometric in _LABS and bits not in (8, 16, 32):
        return f"LAB of {bits} bits a channel"
    if page.imagedepth != 1:
        return f"{page.imagedepth} slices in one image"
    if page.compression != 1 and page.compression not in tifffile.TIFF.DECOMPRESSORS:
        names = {item.value: item.name for item in tifffile.COMPRESSION}
        return f"the compression {names.get(int(page.compression), page.compression)}"
    return None


def _check_segments(page: tifffile.TiffPage, data: bytes) -> None:
    """Raises ValueError unless each strip or tile lies within the file and is as large as the directory says.

    tifffile would fill up what is missing. Codecs that are formats of their own give what their header says, however
    much that is.
    """
    import tifffile

    places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if len(places) < np.prod(page.chunked) or any(not 0 < at <= at + length <= len(data) for at, length in places):
        raise ValueError("truncated TIFF")
    # Sound files store a part once, or let blank parts share one; else each row could claim the whole file.
    if sum(length for _, length in places) > len(data) + page.nbytes:
        raise ValueError("its strips or tiles overlap")
    if page.compression not in {*tifffile.TIFF.IMAGE_COMPRESSIONS, _LERC}:
        return
    width, height = page.imagewidth, min(page.imagelength, page.rowsperstrip)
    if page.is_tiled:
        width, height = page.tilewidth, page.tilelength
    most = width * (height + 16)  # a block of JPEG may go beyond
    if any(segment_sizes.pixels(data[at : at + length]) > most for at, length in places):
        raise ValueError("a strip or tile is larger than the directory says")


def _colours(samples: np.ndarray, photometric: int, bits: int, colormap: np.ndarray | None) -> np.ndarray:
    """Grey, RGB or CMYK of the samples without the extra ones, uint8 or uint16."""
    if photometric == _PALETTE:
        if colormap is None:
            raise ValueError("it has no palette")
        return np.moveaxis(colormap[:, samples[:, :, 0]], 0, 2)
    if samples.dtype.kind == "i" or (bits > 16 and samples.shape[2] == 1):
        values = _counted(samples)
    else:
        values = deep_colour.spread(samples, bits)
    if photometric == _WHITE_IS_ZERO:
        return ~values
    return _rgb_of_ycbcr(values) if photometric == _YCBCR else values


def _white(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """The chromaticity of the white that the file names."""
    values = page.tags.valueof(_WHITE_POINT)
    if not isinstance(values, tuple) or len(values) != 4 or not (values[1] and values[3]):
        return None
    return values[0] / values[1], values[2] / values[3]


def _divided(samples: np.ndarray, alpha: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned samples without the alpha that they were multiplied with, spread over 0-255 or 0-65535."""
    white, dtype = (255, np.uint8) if bits <= 8 else (65535, np.uint16)
    parts = np.minimum(samples / np.maximum(alpha, 1), 1)
    return np.floor(parts * white + 0.5).astype(dtype)


def _counted(samples: np.ndarray) -> np.ndarray:
    """Integers of no certain white, as they are. Raises ImageError for those beyond 8 or 16 bits."""
    white, least, most = 255 if samples.dtype.itemsize == 1 else 65535, samples.min(), samples.max()
    if least < 0 or most > white:
        kind = "signed" if samples.dtype.kind == "i" else "unsigned"
        raise ImageError(
            f"unsupported pixels: TIFF with {kind} {8 * samples.dtype.itemsize}-bit integers from {least} to {most}, "
            f"which have no certain black and white; {_FIX}"
        )
    return samples.astype(np.uint8 if white == 255 else np.uint16)


def _rgb_of_ycbcr(values: np.ndarray) -> np.ndarray:
    """RGB of YCbCr, full range, BT.601 (TIFF 6.0, section 21), of the same type."""
    white = int(np.iinfo(values.dtype).max)
    y, blue, red = np.moveaxis(values.astype(np.float64), 2, 0) - [[[0]], [[(white + 1) / 2]], [[(white + 1) / 2]]]
    rgb = np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], axis=2)
    return np.clip(np.round(rgb), 0, white).astype(values.dtype)
