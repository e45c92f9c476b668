"""Finds out what noise an image has, and what level a denoiser should be told.

A denoiser knows white noise. A camera's noise is smeared by demosaicing, by the camera's own denoising and by JPEG, and
it is as strong in means over a few pixels as white noise of two to four times its deviation: that is the level at which
a denoiser takes it for noise. `finder` reads both from the image; where the noise is white, `white` measures it better.
"""

import functools
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from imagewizard.noise import white
from imagewizard.noise.finder import CELL, FLOOR, CellNoise, LevelFinder, cell_share, varied

WEIGHTS = Path(__file__).with_name("level_finder.safetensors")

# A quarter of an image is read, in tiles all over it, and no more of a large one: it tells as much, and costs less than
# a twentieth of denoising the image.
TILE = 64
SHARE = 0.25
LEAST_TILES, MOST_TILES = 4, 64
# Fewer pixels that differ from their neighbours tell nothing. A smaller image needs half of its own.
LEAST_PIXELS = 256
# Below this deviation nobody sees noise, and what is found is as likely the image's own detail or its rounding.
LEAST_STD = 0.8
# Noise is white if the eigenvalues say about the same as the network. To them smeared noise is a tenth of what it is,
# and a page of text is noise of 50 and more.
LEAST_WHITE, MOST_WHITE = 1 / 3, 2.5
# Doubt from which on the level that is told falls in proportion: there is texture, which too high a level smooths away.
MOST_DOUBT = 0.4
# Deviation of the brightness, in grey levels, from which on a growth of the noise with it can be measured.
LEAST_SPREAD = 12.0

Kind = Literal["none", "white", "camera"]


@dataclass(frozen=True)
class Found:
    """What was found of the noise in an image. All values are on the 0-255 scale."""

    std: float | None
    """Standard deviation of the noise, finite, >= 0; None: too little of the image varies to find any."""
    level: float | None
    """The sigma that serves the denoiser best on this noise, finite, >= 0; None where `std` is None."""
    kind: Kind
    """none: there is no noise, or none to be seen. white: it is independent from pixel to pixel. camera: it is smeared,
    as behind a camera's processing or a JPEG."""
    gain: float | None
    """How much the noise's variance grows for each grey level of brightness; None if that was not measured."""

    @property
    def is_smeared(self) -> bool:
        """Whether neighbouring pixels share the noise, so that it is taken off at two scales."""
        return self.kind == "camera"


NOTHING = Found(None, None, "none", None)


@torch.inference_mode()
def find(image: np.ndarray, alpha: np.ndarray | None = None, device: torch.device | None = None) -> Found:
    """What noise there is in `image`: (H, W, 3) or (H, W, 1), uint8 or float (0-255 scale), clipped or not.

    `alpha`: (H, W); where it is 0, pixels do not count. None: all do. `device`: where to compute; None: the CPU, which
    also serves where the device is no CUDA one or has no memory left.
    """
    if device is not None and device.type == "cuda":
        with suppress(torch.OutOfMemoryError):
            return _find(image, alpha, device)
    return _find(image, alpha, torch.device("cpu"))


def _find(image: np.ndarray, alpha: np.ndarray | None, device: torch.device) -> Found:
    # Where the quarter that is read is flat, there may still be a picture on the page: more is read then.
    for share in (SHARE, 1.0):
        tiles, opaque = (part.to(device) for part in _tiles(image, alpha, share))
        counted = varied(tiles) & opaque
        if int(counted.sum()) >= min(LEAST_PIXELS, image.shape[0] * image.shape[1] / 2):
            break
    else:
        return NOTHING
    weight = cell_share(counted)
    found = _finder(device)(tiles.expand(-1, 3, -1, -1))
    # The tiles are parts of one image.
    cells = CellNoise(*(part.flatten(0, 1).unsqueeze(0) for part in found))
    whole = cells.pooled(weight.flatten(0, 1).unsqueeze(0))
    std, level = (max(0.0, math.exp(float(log)) - FLOOR) for log in (whole.std, whole.level))
    exact = (white.sigma(tiles, counted) or 0.0) if std >= LEAST_STD else 0.0
    is_white = LEAST_WHITE * std < exact < MOST_WHITE * std
    std = exact if is_white else std
    if std < LEAST_STD:
        return Found(std, 0.0, "none", None)
    gain = _gain(found.std, weight * torch.exp(-2.0 * found.doubt), tiles)
    if is_white:
        return Found(std, std, "white", gain)
    # The more a camera has smeared its noise, the more the network falls short, which knows synthetic cameras alone.
    # The root and MOST_DOUBT were chosen on pairs of real photographs and on clean ones (level_finder.md).
    smeared = math.sqrt(max(1.0, level / std))
    return Found(std, level * smeared * min(1.0, MOST_DOUBT / math.exp(float(whole.doubt))), "camera", gain)


@functools.cache
def _finder(device: torch.device) -> LevelFinder:
    finder = LevelFinder().eval().requires_grad_(False)
    finder.load_state_dict({name: weight.float() for name, weight in load_file(WEIGHTS).items()})
    return finder.to(device)


def _tiles(image: np.ndarray, alpha: np.ndarray | None, share: float) -> tuple[Tensor, Tensor]:
    """(pixels: float32 (N, C, H, W), C = 1 if they are grey; which of them are not transparent: bool (N, H, W)).

    Tiles at even distances all over the image, with about `share` of its pixels, or a small image whole. Sides are
    multiples of CELL.
    """
    opaque = np.ones(image.shape[:2], bool) if alpha is None else alpha > 0
    height, width = image.shape[:2]
    places = [(slice(None), slice(None))]
    count = min(max(LEAST_TILES, math.ceil(share * height * width / TILE**2)), MOST_TILES)
    if height * width > count * TILE**2:
        least, most = (2 if height >= 2 * TILE else 1), (count // 2 if width >= 2 * TILE else count)
        rows = min(max(least, round(math.sqrt(count * height / width))), most)
        tops, lefts = _starts(height, rows), _starts(width, count // rows)
        places = [(slice(top, top + TILE), slice(left, left + TILE)) for top in tops for left in lefts]
    pixels = np.stack([_padded(image[place]) for place in places])
    if pixels.shape[3] == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]
    alphas = np.stack([_padded(opaque[place]) for place in places])
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32, order="C")), torch.from_numpy(alphas)


def _starts(length: int, count: int) -> list[int]:
    """Where tiles begin; on the grid of JPEG's blocks."""
    return sorted({int(start) // CELL * CELL for start in np.linspace(0, max(0, length - TILE), count)})


def _padded(part: np.ndarray) -> np.ndarray:
    """Reflected at the bottom and right up to a multiple of CELL."""
    missing = [(0, -length % CELL) for length in part.shape[:2]] + [(0, 0)] * (part.ndim - 2)
    return np.pad(part, missing, "reflect")


def _gain(std: Tensor, weight: Tensor, tiles: Tensor) -> float | None:
    """Slope of the cells' variance over their brightness, by weighted least squares of the relative errors."""
    brightness = torch.nn.functional.avg_pool2d(tiles.mean(1, keepdim=True), CELL).squeeze(1).flatten().double()
    variance = (std.flatten().double().exp() - FLOOR).clamp(min=0.3).square()
    weight = weight.flatten().double() / variance.square()
    weight = weight / weight.sum()
    centred = brightness - (weight * brightness).sum()
    spread = (weight * centred.square()).sum()
    if float(spread) < LEAST_SPREAD**2:
        return None
    return float((weight * centred * variance).sum() / spread)
