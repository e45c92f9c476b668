"""The network that reads the noise of an image: how strong it is, and what level a denoiser should be told.

An image is read in cells of 8x8 pixels. Each gets an estimate and a doubt: a blue sky tells more of the noise than
leaves do. `pooled` makes one of them.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CELL = 8
"""Side of a cell, in pixels."""
# Logarithms are taken of a level + FLOOR (0-255 scale), since what is far below it makes no visible difference.
FLOOR = 2.0
# Bounds of DOUBT.
_LEAST, _MOST = -4.0, 2.0


class CellNoise(NamedTuple):
    """The noise of each cell: float32 (N, H / CELL, W / CELL), or of each image: (N,)."""

    std: Tensor
    """log(standard deviation of the noise + FLOOR)."""
    level: Tensor
    """log(level that a denoiser should be told + FLOOR)."""
    doubt: Tensor
    """Logarithm of the expected error of the other two."""

    def pooled(self, share: Tensor) -> "CellNoise":
        """The noise of each image: float32 (N,). `share`: how much of each cell counts, 0 to 1.

        Means by the inverse square of the doubt. The doubt is that of a typical cell among those that count most.
        """
        weight = share * torch.exp(-2.0 * self.doubt)
        total = weight.sum((1, 2)).clamp(min=1e-6)
        std, level = ((weight * part).sum((1, 2)) / total for part in (self.std, self.level))
        return CellNoise(std, level, -0.5 * torch.log(total / share.sum((1, 2)).clamp(min=1e-6)))


class LevelFinder(nn.Module):
    """A convolutional network on the 2x2 Haar transform of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(12, 48, 3, padding=1), nn.ReLU(),
            nn.Conv2d(48, 64, 3, 2, padding=1), nn.ReLU(),
            nn.Conv2d(64, 64, 3, 2, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.coarse = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
            nn.Conv2d(64, 3, 1),
        )  # fmt: skip
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> CellNoise:
        """The noise of images (N, 3, H, W) on the 0-255 scale, whose sides are multiples of CELL."""
        # The first layers measure amplitudes, which are linear in the noise; logarithms make them comparable.
        std, level, doubt = self.coarse(torch.log1p(4.0 * self.fine(_haar(images)))).unbind(1)
        return CellNoise(std, level, doubt.clamp(_LEAST, _MOST))


def _haar(images: Tensor) -> Tensor:
    """(N, C, H, W) → (N, 4C, H / 2, W / 2): sums, and the three differences, in which noise stands out."""
    top, bottom = images[:, :, ::2], images[:, :, 1::2]
    rows, steps = top + bottom, top - bottom
    sums, across = rows[..., ::2] + rows[..., 1::2], rows[..., ::2] - rows[..., 1::2]
    down, corners = steps[..., ::2] + steps[..., 1::2], steps[..., ::2] - steps[..., 1::2]
    return torch.cat([sums / 512.0 - 1.0, across / 32.0, down / 32.0, corners / 32.0], dim=1)


def varied(images: Tensor) -> Tensor:
    """Which pixels differ from one beside, above or below them: bool (N, H, W), for (N, 3, H, W).

    The others are a page, a border, or fully clipped: they have no noise, whatever the image has.
    """
    across = (images[:, :, :, 1:] != images[:, :, :, :-1]).any(1)
    down = (images[:, :, 1:] != images[:, :, :-1]).any(1)
    return F.pad(across, (0, 1)) | F.pad(across, (1, 0)) | F.pad(down, (0, 0, 0, 1)) | F.pad(down, (0, 0, 1, 0))


def cell_share(counted: Tensor) -> Tensor:
    """Share of each cell's pixels that count: float32 (N, H / CELL, W / CELL), for bool (N, H, W)."""
    return F.avg_pool2d(counted.float().unsqueeze(1), CELL).squeeze(1)
