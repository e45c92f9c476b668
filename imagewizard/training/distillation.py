"""Distils the eightfold ensemble of a network into one forward pass.

The mean of a network's estimates from all eight flips and turns of an image is better than one estimate alone. A
student that learns its teacher's estimate from a view drawn at random learns this mean. Its target varies only by what
the views differ in, far less than the noise itself, so it learns fast (Hinton, Vinyals, Dean 2015; compare the data
distillation of Radosavovic et al. 2018).
"""

import torch
from torch import Tensor, nn

from imagewizard.diffusion.sampling import predict_eps
from imagewizard.diffusion.unet import UNet2DModel

VIEWS = 8


class Teacher(nn.Module):
    """A frozen network that estimates the noise of square crops from other views of them."""

    _seen: Tensor
    _back: Tensor

    def __init__(self, unet: UNet2DModel, size: int) -> None:
        """`size`: side of the crops, in pixels."""
        super().__init__()
        self.unet = unet.eval().requires_grad_(False)
        places = torch.arange(size * size).view(size, size)
        views = [torch.rot90(places.flip(1) if view >= 4 else places, view % 4) for view in range(VIEWS)]
        seen = torch.stack([view.flatten() for view in views])
        self.register_buffer("_seen", seen, persistent=False)
        self.register_buffer("_back", seen.argsort(dim=1), persistent=False)

    @torch.no_grad()
    def forward(self, x_t: Tensor, timesteps: Tensor, view: Tensor) -> Tensor:
        """The estimate of eps, float32 (N, 3, H, W), from each crop's own view: int64 (N,), 0 to VIEWS - 1.

        `x_t`: float32 (N, 3, H, W); `timesteps`: float32 (N,).
        """
        eps = predict_eps(self.unet, _rearranged(x_t, self._seen[view]), timesteps)
        return _rearranged(eps, self._back[view])


def _rearranged(crops: Tensor, places: Tensor) -> Tensor:
    """Crops (N, C, H, W) whose pixel i is their pixel places[:, i]; `places`: (N, H * W)."""
    index = places[:, None].expand(-1, crops.shape[1], -1)
    return crops.flatten(2).gather(2, index).view(crops.shape)
