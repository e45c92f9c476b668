"""Recognises the 68 images of CBSD68 by their content, so that no training sees what the benchmark measures.

The repository holds no pictures, but `cbsd68.json` beside this file has their fingerprints: {name: fingerprint(image)}
of the 68 images, in the order of their names.
"""

import functools
import json
from importlib import resources

import numpy as np

# The signs of the 16 x 16 lowest DCT coefficients: waves from twice the picture's side down to about an eighth of it.
_ORDER = 16
# Beyond this many rows and columns pixels are left out: what is measured are waves of 32 pixels and more at this size.
_SIDE = 256
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, so that a grey copy matches too

# Bits of 256 that differ, measured over CBSD68, turned and flipped in all 8 ways: at most 7 in a copy (JPEG quality 50;
# resized to 0.25, 0.5, 0.7, 1.5, 2, or made square; 0.5 with quality 50), 12 at gamma 0.8, 20 under noise of sigma 50,
# 41 where 3 % was cropped away. At least 88 to another of the 68, or to any of 797 other pictures: the rest of BSDS500,
# Kodak24, 305 photos, scikit-image's samples, flats, ramps and noise.
_MAX_DISTANCE = 48


def match(image: np.ndarray) -> str | None:
    """The name, such as "101085", of the CBSD68 image that `image` (uint8, (H, W, 3)) shows; None if it shows none.

    It is found turned, mirrored, resized, grey, and as a JPEG of quality 50 or more, but not where more than some 3 %
    was cropped away.
    """
    benchmark = _benchmark()
    signs = _signs(image)
    # A mirror image has the odd coefficients negated, a transposed one has them transposed.
    flip = np.where(np.arange(_ORDER) % 2, -1, 1).astype(np.float32)
    mirrored = [signs, signs * flip, signs * flip[:, None], signs * flip * flip[:, None]]
    variants = np.array([*mirrored, *(variant.T for variant in mirrored)]).reshape(8, -1)
    distances = (_ORDER * _ORDER - variants @ benchmark.T).min(axis=0) / 2
    nearest = int(distances.argmin())
    return names()[nearest] if distances[nearest] <= _MAX_DISTANCE else None


def names() -> list[str]:
    """The names of CBSD68's 68 images, sorted."""
    return list(_fingerprints())


def fingerprint(image: np.ndarray) -> str:
    """256 bits as 64 hex digits of a uint8 (H, W, 3) image: row by row, which of its DCT coefficients are positive."""
    return np.packbits(_signs(image) > 0).tobytes().hex()


def _signs(image: np.ndarray) -> np.ndarray:
    """float32 (16, 16): 1 where the DCT-II coefficient of the image's luma is positive, elsewhere -1."""
    step = max(1, min(image.shape[:2]) // _SIDE)
    small = image[::step, ::step].astype(np.float32)
    height, width = small.shape[:2]
    columns = (_waves(height) @ small.reshape(height, -1)).reshape(_ORDER, width, 3) @ _LUMA
    return np.where(columns @ _waves(width).T > 0, 1, -1).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _waves(length: int) -> np.ndarray:
    """float32 (16, length): the DCT-II's cosines, cos(pi k (2x + 1) / 2N)."""
    k, x = np.arange(_ORDER)[:, None], np.arange(length)
    return np.cos(np.pi * k * (2 * x + 1) / (2 * length)).astype(np.float32)


@functools.cache
def _fingerprints() -> dict[str, str]:
    stored: dict[str, str] = json.loads(
        (resources.files("imagewizard.datasets") / "cbsd68.json").read_text(encoding="utf-8")
    )
    return stored


@functools.cache
def _benchmark() -> np.ndarray:
    """The stored fingerprints as signs, float32 (68, 256)."""
    digits = bytes.fromhex("".join(_fingerprints().values()))
    bits = np.unpackbits(np.frombuffer(digits, np.uint8)).reshape(-1, _ORDER * _ORDER)
    return np.where(bits, 1, -1).astype(np.float32)
