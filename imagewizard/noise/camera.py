"""Noise as a camera leaves it: shot and read noise of the sensor behind demosaicing, colours, tone curve and JPEG.

Brooks et al. 2019, "Unprocessing Images for Learned Raw Denoising": a finished picture is taken back to the sensor's
linear values, gets noise there, and is developed again. What is linear on this way acts on the noise alone, so that the
picture's own detail is demosaiced by no one a second time. That finished noise is neither white nor equally strong in
dark and bright parts.

The result has the same bits on every machine that has the packages of requirements.lock: powers come from tables whose
entries are rounded far coarser than a power's last bit, no product and sum can be fused, and Pillow writes the JPEG.
"""

import functools
import io
import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]

# Electrons that fill a pixel at gain 1, and the noise of reading it out. Typical of cameras with a pixel of 4 to 5 µm,
# whose base sensitivity is ISO 100.
FULL_WELL = 32_768
READ_ELECTRONS = 3.0
# Camera RGB to linear sRGB; each row sums to 1, so that grey stays grey. Much like common cameras'.
_TO_SRGB = ((1.75, -0.55, -0.20), (-0.22, 1.60, -0.38), (0.02, -0.52, 1.50))
_TO_CAMERA = tuple(tuple(row) for row in np.linalg.inv(np.array(_TO_SRGB)).round(6).tolist())
# Entries of a tone curve's table: one for each 16-bit value.
_STEPS = 65_535
# Rows that are demosaiced at a time: an even number.
_BAND = 256
# Side of the largest JPEG, in whole blocks of 16: Pillow writes none above 65,500.
_LONGEST = 65_488
# BT.601, as JPEG's.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Development:
    """A camera's settings."""

    gain: float = 16.0
    """Sensitivity: about ISO / 100. The sensor's white is FULL_WELL / gain electrons; 0 adds no noise."""
    red: float = 2.0
    """White balance: factor of the sensor's red."""
    blue: float = 1.6
    """White balance: factor of the sensor's blue."""
    contrast: float = 1.0
    """Share of Brooks's S curve, 3x² - 2x³, behind sRGB's gamma: 0 to 1."""
    smoothing: float = 0.5
    """How often the camera's own denoising has averaged the noise's luma over 5x5 pixels: a part of a time leaves
    the rest as it was."""
    colour_smoothing: float = 0.7
    """Share of the noise's colours that it has removed, 0 to 1: averages over wide areas leave next to none."""
    quality: int = 92
    """Of the JPEG."""
    subsampling: Subsampling = "4:2:2"
    """Resolution of the JPEG's colours."""

    def expose(self, clean: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The photograph of `clean` that this camera takes: float32 whole numbers, 0-255 scale, of the same shape.

        `clean` is uint8 or float (0-255 scale, clipped here): (H, W, 3) or (H, W, 1). A grey image is photographed as
        three equal channels, and gets the luma of the photograph.
        """
        # Of a large image each copy counts: what is no longer needed goes at once.
        to_linear, to_tone = _curves(self.contrast)
        values = _sixteen_bits(clean.clip(0, 255) * np.float32(257.0))
        linear = np.broadcast_to(to_linear[values], (*clean.shape[:2], 3))
        seen = _mixed(self._sensor_noise(linear, generator), _TO_SRGB)
        seen += linear
        del linear
        noise = to_tone[_sixteen_bits(seen.clip(0.0, 1.0, out=seen) * np.float32(_STEPS))]
        before = values.astype(np.float32)
        before /= np.float32(257.0)
        del values, seen
        noise -= before
        finished = self._smeared(noise)
        finished += before
        finished = np.rint(finished.clip(0.0, 255.0, out=finished)).astype(np.uint8)
        return self._compressed(finished if clean.shape[2] == 3 else luma_of(finished))

    def _sensor_noise(self, linear: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Demosaiced noise in camera RGB after the white balance; float32 (H, W, 3), 1 is the sensor's white.

        Shot noise has the variance of a Poisson variable, signal / electrons, read noise that of a constant.
        """
        balance = np.array([self.red, 1.0, self.blue], np.float32)
        camera = _mixed(linear, _TO_CAMERA)
        camera /= balance
        camera = np.pad(camera, ((2, 2), (2, 2), (0, 0)), "edge")
        raw = camera[:, :, 1].copy()
        raw[::2, ::2], raw[1::2, 1::2] = camera[::2, ::2, 0], camera[1::2, 1::2, 2]
        del camera
        electron = np.float32(self.gain / FULL_WELL)
        variance = raw.clip(0.0, 1.0) * electron
        variance += (electron * np.float32(READ_ELECTRONS)) ** 2
        noise = generator.standard_normal(raw.shape, np.float32) * np.sqrt(variance)
        # A sensor has no values beyond its white.
        noise = np.minimum(raw + noise, 1.0) - np.minimum(raw, 1.0)
        found = _demosaiced(noise)
        found *= balance
        return found

    def _smeared(self, noise: np.ndarray) -> np.ndarray:
        """The noise (H, W, 3) after the camera's own denoising."""
        luma = luma_of(noise)[:, :, np.newaxis]
        colours = noise - luma
        for time in range(math.ceil(self.smoothing)):
            luma = luma + np.float32(min(1.0, self.smoothing - time)) * (_blurred(luma) - luma)
        colours *= np.float32(1.0 - self.colour_smoothing)
        colours += luma
        return colours

    def _compressed(self, finished: np.ndarray) -> np.ndarray:
        """The picture after JPEG: float32 (H, W, 1 or 3), whole numbers. What is too long for one JPEG is several."""
        layout = {} if finished.ndim == 2 else {"subsampling": self.subsampling}
        decoded = np.empty((*finished.shape[:2], 1 if finished.ndim == 2 else 3), np.float32)
        for top, left in itertools.product(*(range(0, length, _LONGEST) for length in finished.shape[:2])):
            part = slice(top, top + _LONGEST), slice(left, left + _LONGEST)
            stream = io.BytesIO()
            Image.fromarray(finished[part]).save(stream, "JPEG", quality=self.quality, **layout)
            decoded[part] = np.asarray(Image.open(stream)).reshape(decoded[part].shape)
        return decoded


def draw(generator: np.random.Generator) -> Development:
    """A camera at random, for training: from a bright day to a phone at night, from no smoothing to a lot."""
    gain, red, blue, contrast, smoothing, colour_smoothing, quality = generator.random(7)
    # Finished photographs have neighbours that correlate by 0.4 to 0.9, and less noise in colours than in luma.
    return Development(
        gain=float(4.0 * 64.0**gain),
        red=float(1.4 + 1.2 * red),
        blue=float(1.3 + 1.1 * blue),
        contrast=float(contrast),
        smoothing=float(2.5 * smoothing),
        colour_smoothing=float(np.sqrt(colour_smoothing)),
        quality=int(60 + 41 * quality),
        subsampling=("4:4:4", "4:2:2", "4:2:0")[generator.integers(3)],
    )


def _sixteen_bits(values: np.ndarray) -> np.ndarray:
    """Values of 0 to 65535, rounded: uint16. Overwrites `values`."""
    return np.rint(values, out=values).astype(np.uint16)


@functools.lru_cache(maxsize=4)
def _curves(contrast: float) -> tuple[np.ndarray, np.ndarray]:
    """(16-bit finished value → linear, 16-bit linear value → finished on the 0-255 scale): float32, 65,536 values each.

    Rounded to 2^-20 and 2^-12.
    """
    steps = np.arange(_STEPS + 1) / _STEPS
    curved = (1.0 - contrast) * steps + contrast * steps**2 * (3.0 - 2.0 * steps)
    display = np.where(steps <= 0.0031308, 12.92 * steps, 1.055 * steps ** (1.0 / 2.4) - 0.055)  # sRGB, IEC 61966-2-1
    to_tone = np.interp(display, steps, curved)
    to_linear = np.interp(steps, to_tone, steps)
    linear = (np.rint(to_linear * 2.0**20) * 2.0**-20).astype(np.float32)
    tone = (np.rint(255.0 * to_tone * 2.0**12) * 2.0**-12).astype(np.float32)
    return linear, tone


def _mixed(image: np.ndarray, matrix: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """`matrix` times each pixel's colour; numpy's own product would leave the order of sums to a library."""
    red, green, blue = (image[:, :, i] for i in range(3))
    rows = [np.float32(r) * red + np.float32(g) * green + np.float32(b) * blue for r, g, b in matrix]
    return np.stack(rows, axis=2)


def _demosaiced(raw: np.ndarray) -> np.ndarray:
    """RGB of an RGGB mosaic without its border of 2, in bands of rows, which bounds the memory of what is added up."""
    height, width = (length - 4 for length in raw.shape)
    found = np.empty((height, width, 3), np.float32)
    for top in range(0, height, _BAND):
        found[top : top + _BAND] = _demosaiced_band(raw[top : top + _BAND + 4])
    return found


def _demosaiced_band(raw: np.ndarray) -> np.ndarray:
    """Malvar, He, Cutler 2004, figure 2."""

    def at(down: int, right: int) -> np.ndarray:
        height, width = raw.shape
        return raw[2 + down : height - 2 + down, 2 + right : width - 2 + right]

    centre, far_rows, far_columns = at(0, 0), at(-2, 0) + at(2, 0), at(0, -2) + at(0, 2)
    rows, columns = at(-1, 0) + at(1, 0), at(0, -1) + at(0, 1)
    corners = at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1)
    eighth, half, three_halves = np.float32(0.125), np.float32(0.5), np.float32(1.5)
    cross = (4 * centre + 2 * (rows + columns) - (far_rows + far_columns)) * eighth
    beside = (5 * centre + 4 * columns - far_columns - corners + half * far_rows) * eighth
    above = (5 * centre + 4 * rows - far_rows - corners + half * far_columns) * eighth
    diagonal = (6 * centre + 2 * corners - three_halves * (far_rows + far_columns)) * eighth

    found = np.empty((*centre.shape, 3), np.float32)
    red, blue = (slice(0, None, 2), slice(0, None, 2)), (slice(1, None, 2), slice(1, None, 2))
    beside_red, beside_blue = (slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))
    for site, planes in (
        (red, (centre, cross, diagonal)),
        (blue, (diagonal, cross, centre)),
        (beside_red, (beside, centre, above)),
        (beside_blue, (above, centre, beside)),
    ):
        for channel, plane in enumerate(planes):
            found[*site, channel] = plane[site]
    return found


def luma_of(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) → (H, W), of the same type: uint8, or float32 of any range."""
    red, green, blue = (np.float32(factor) * image[:, :, i] for i, factor in enumerate(_LUMA))
    total = red + green + blue
    return np.rint(total).astype(np.uint8) if image.dtype == np.uint8 else total


def _blurred(image: np.ndarray) -> np.ndarray:
    """The binomial filter 1 4 6 4 1 along both axes."""
    for axis in (0, 1):
        around = [(2, 2) if each == axis else (0, 0) for each in range(3)]
        padded = np.moveaxis(np.pad(image, around, "edge"), axis, 0)
        far2, far1, middle, near1, near2 = (padded[i : len(padded) - 4 + i] for i in range(5))
        image = np.moveaxis((far2 + near2 + 4 * (far1 + near1) + 6 * middle) * np.float32(0.0625), 0, axis)
    return image
