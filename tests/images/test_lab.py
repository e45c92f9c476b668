"""lab: LAB TIFFs as Photoshop, ImageMagick, libvips and faxes have them, against formulas."""

import io

import numpy as np
import pytest
import tifffile

from imagewizard.images.picture import decode

D50, D65 = (0.9642, 1, 0.8249), (0.95047, 1, 1.08883)
FROM_D50 = [[3.13386, -1.61687, -0.49061], [-0.97877, 1.91614, 0.03345], [0.07195, -0.22899, 1.40524]]
FROM_D65 = [[3.24096, -1.53738, -0.49861], [-0.96924, 1.87597, 0.04156], [0.05563, -0.20398, 1.05697]]
"""XYZ under a white to linear sRGB; from D50 after Bradford's adaptation (IEC 61966-2-1; B. Lindbloom)."""


def written(samples: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **options)
    return stream.getvalue()


def read(data: bytes) -> np.ndarray:
    return decode(data, 1000, True).pixels


def srgb(lab: np.ndarray, white: tuple[float, ...] = D50, matrix: list[list[float]] = FROM_D50) -> np.ndarray:
    """CIELAB to sRGB in 0-1 (CIE 15; IEC 61966-2-1), clipped."""
    middle = (lab[..., 0] + 16) / 116
    f = np.stack([middle + lab[..., 1] / 500, middle, middle - lab[..., 2] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2) * white
    linear = np.clip(xyz @ np.array(matrix).T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


LAB = np.array([[[100, 0, 0], [50, 0, 0], [0, 0, 0], [60, 20, -30], [40, -25, 10]]], float)


def stored_lab(photometric: int, bits: int) -> np.ndarray:
    """LAB as TIFF 6.0, its Technical Note 4 and ITU-T T.42 say to store it."""
    size, most = 2 ** (bits - 8), 2**bits - 1
    if photometric == 8:
        parts = LAB[..., :1] * most / 100, np.round(LAB[..., 1:] * size) % (most + 1)
    elif photometric == 9:
        parts = LAB[..., :1] * (255 * size) / 100, (LAB[..., 1:] + 128) * size
    else:
        parts = LAB[..., :1] * most / 100, (LAB[..., 1:] * [255 / 170, 255 / 200] + [128, 96]) * most / 255
    return np.round(np.concatenate(parts, -1)).astype(f"u{bits // 8}")


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", [8, 9, 10])
def test_lab_becomes_srgb(photometric, bits, planar):
    lab = stored_lab(photometric, bits)
    for kind in ("u", "i"):  # libvips calls them signed, the lightness too
        stored = lab.view(f"{kind}{bits // 8}")
        stored = stored if planar == "contig" else np.moveaxis(stored, -1, 0)
        pixels = read(written(stored, photometric=photometric, planarconfig=planar))
        assert pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
        assert np.abs(pixels / (2**bits - 1) - srgb(LAB)).max() < (0.012 if bits == 8 else 0.0008)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_white_that_a_file_names(bits):
    lab = stored_lab(8, bits)

    def read_under(x: int, y: int) -> np.ndarray:
        tag = (318, 5, 2, (x, 10000, y, 10000), True)
        return read(written(lab, photometric="cielab", planarconfig="contig", extratags=[tag]))

    most = 2**bits - 1
    assert np.abs(read_under(3127, 3290) / most - srgb(LAB, D65, FROM_D65)).max() < (0.012 if bits == 8 else 0.0015)
    assert np.abs(read_under(3457, 3585) / most - srgb(LAB)).max() < (0.012 if bits == 8 else 0.0015)
    assert np.abs(read_under(0, 0) / most - srgb(LAB)).max() < (0.012 if bits == 8 else 0.0008)  # no white
