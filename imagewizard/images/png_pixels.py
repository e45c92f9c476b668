"""Writes the pixels of an 8-bit PNG faster than Pillow and libpng do."""

import struct

import numpy as np

from imagewizard.images import png_text
from imagewizard.images.png_chunks import SIGNATURE, Chunk

# CPU time and size of denoised photographs, means over five of scikit-image's, smoothed a little, the median of 9 runs:
#                                                            256x256              512x512
#   Pillow, level 1                                          7.4 ms,  99.7 kB     26 ms, 357 kB
#   libpng, level 1 of zlib-ng, all rows Up                  3.0 ms, 100.5 kB     11 ms, 358 kB
#   libpng, run lengths, all rows Paeth                      3.3 ms,  91.6 kB     11 ms, 324 kB
#   libdeflate, level 1, all rows Up                         1.5 ms, 100.3 kB      6 ms, 354 kB
#   libdeflate, level 1, all rows Average                    1.9 ms,  96.2 kB      6 ms, 339 kB
#   libdeflate, level 1, all rows Paeth                      3.2 ms,  94.5 kB     12 ms, 337 kB
#   libdeflate, level 2, all rows Average                    3.1 ms,  94.7 kB     11 ms, 332 kB
# Average costs least for what it saves: as little as Up, for files that are smaller than Pillow's.
_LEVEL = 1
_AVERAGE = 3
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels: grey, grey with alpha, RGB, RGB with alpha
# Samples that are filtered at a time: their averages, of 16 bits, stay in the processor's cache.
_BAND = 1 << 16
# Bytes of a chunk of pixels, which may have 2^31 - 1.
_MOST = 1 << 30


def write(samples: np.ndarray) -> bytes:
    """The file bytes of uint8 (H, W, 1-4), without metadata. PNG, third edition, 9 to 11."""
    import imagecodecs  # 0.1 s that only writing needs

    height, width, channels = samples.shape
    pixels = memoryview(imagecodecs.deflate_encode(_filtered(samples), _LEVEL, raw=False))
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    parts = [Chunk(b"IDAT", bytes(pixels[start : start + _MOST])) for start in range(0, len(pixels), _MOST)]
    return SIGNATURE + b"".join(png_text.written([Chunk(b"IHDR", header), *parts, Chunk(b"IEND", b"")]))


def _filtered(samples: np.ndarray) -> bytearray:
    """Each row behind its filter's number, less the mean of what is to the left and above, rounded down."""
    height, width, channels = samples.shape
    stream = bytearray(height * (1 + width * channels))
    filtered = np.frombuffer(stream, np.uint8).reshape(height, -1)
    filtered[:, 0] = _AVERAGE
    rows = max(1, _BAND // (width * channels))
    around = np.zeros((rows + 1, (width + 1) * channels), np.uint16)  # with a row above and a pixel to the left
    for top in range(0, height, rows):
        band = samples[top : top + rows].reshape(-1, width * channels)
        around[0] = around[rows]
        around[1 : len(band) + 1, channels:] = band
        mean = around[1 : len(band) + 1, :-channels] + around[: len(band), channels:]
        mean >>= 1
        np.subtract(band, mean, out=filtered[top : top + rows, 1:], casting="unsafe")
    return stream
