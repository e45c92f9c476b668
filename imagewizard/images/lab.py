"""LAB to sRGB, as TIFFs store it."""

import numpy as np

from imagewizard.images.icc import D50, adaptation

CIELAB, ICCLAB, ITULAB = 8, 9, 10
"""The values of a TIFF's PhotometricInterpretation."""


def to_srgb(samples: np.ndarray, kind: int, bits: int, white: tuple[float, float] | None) -> np.ndarray:
    """sRGB by LittleCMS of (H, W, 3) with 8, 16 or 32 bits a channel: uint8 of 8, else uint16.

    `white`: x, y of the white that CIELAB is relative to; D50 without one, as libtiff has it, and in the other kinds.
    """
    import imagecodecs

    # whatever the file says of signs: libvips calls the lightness signed, too
    values = samples.astype(f"u{samples.itemsize}").astype(np.float64)
    lab = {CIELAB: _cielab, ICCLAB: _icclab, ITULAB: _itulab}[kind](values, bits)
    if white is not None and kind == CIELAB and min(white) > 0:
        lab = _under_d50(lab, np.array([white[0] / white[1], 1, (1 - sum(white)) / white[1]]))
    srgb, d50 = imagecodecs.cms_profile("srgb"), imagecodecs.cms_profile("lab4")
    dtype = np.uint8 if bits <= 8 else np.uint16
    return imagecodecs.cms_transform(lab, d50, srgb, colorspace="lab", outcolorspace="rgb", outdtype=dtype)


def _cielab(values: np.ndarray, bits: int) -> np.ndarray:
    """TIFF 6.0, section 23; of 16 bits as Photoshop has it: a and b in 1/256."""
    signed = np.where(values >= 2 ** (bits - 1), values - 2**bits, values) / 2 ** (bits - 8)
    signed[:, :, 0] = values[:, :, 0] * (100 / (2**bits - 1))
    return signed


def _icclab(values: np.ndarray, bits: int) -> np.ndarray:
    """TIFF Technical Note 4 and ICC.1: of 16 bits white is 0xFF00."""
    lab = values / 2 ** (bits - 8)
    return lab * [100 / 255, 1, 1] - [0, 128, 128]


def _itulab(values: np.ndarray, bits: int) -> np.ndarray:
    """ITU-T T.42, its default gamut."""
    return (values * (255 / (2**bits - 1)) - [0, 128, 96]) * [100 / 255, 170 / 255, 200 / 255]


def _under_d50(lab: np.ndarray, white: np.ndarray) -> np.ndarray:
    """LAB relative to a white, of XYZ, as LAB relative to D50 (CIE 15; Bradford's adaptation)."""
    middle = (lab[:, :, 0] + 16) / 116
    roots = np.stack([middle + lab[:, :, 1] / 500, middle, middle - lab[:, :, 2] / 200], axis=2)
    xyz = np.where(roots > 6 / 29, roots**3, (roots - 4 / 29) * (3 * (6 / 29) ** 2)) * white
    parts = xyz @ adaptation(white).T / D50
    x, y, z = np.moveaxis(np.where(parts > (6 / 29) ** 3, np.cbrt(parts), parts / (3 * (6 / 29) ** 2) + 4 / 29), 2, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=2)
