"""Takes off noise that is smeared over many pixels: first at half the size, then at full size.

A network that learned white noise does not know noise that is the same over several pixels. In means over 2x2 pixels
much of that is white again, as Zhou et al. 2020 ("When AWGN-based Denoiser Meets Real Noises") use it. Here the image
is denoised at half its size, what that changed is added to the image, and the noise that is left is taken off as ever.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

# Shares of an image's level that the denoiser is told at half and at full size, where the coarse noise is gone.
COARSE, FINE = 0.5, 0.7


@torch.inference_mode()
def denoise(
    denoiser: Callable[[Sequence[Tensor], Sequence[float]], list[Tensor]],
    noisy: Sequence[Tensor],
    sigmas: Sequence[float],
    smeared: Sequence[bool],
) -> list[Tensor]:
    """What `denoiser` (diffusion.denoiser.Denoiser) makes of the images, in two scales of those whose noise is smeared.

    `noisy` and the result: float32, (3, H, W), [-1, 1] scale, unclamped. `sigmas`: levels on the 0-255 scale; an image
    of level 0 comes back as it is. Raises what `denoiser` raises.
    """
    places = [i for i, (sigma, each) in enumerate(zip(sigmas, smeared, strict=True)) if each and sigma > 0]
    halves = [F.avg_pool2d(noisy[i], 2, ceil_mode=True, count_include_pad=False) for i in places]
    coarse = denoiser(halves, [COARSE * sigmas[i] for i in places])
    changes = [after - before for after, before in zip(coarse, halves, strict=True)]
    del halves, coarse  # an image may have 100 megapixels
    images, told = list(noisy), list(sigmas)
    for i in places:
        height, width = noisy[i].shape[1:]
        change = changes.pop(0).unsqueeze(0)
        change = F.interpolate(change, scale_factor=2, mode="bilinear")[0, :, :height, :width]
        images[i], told[i] = change.add_(noisy[i]), FINE * sigmas[i]
    return denoiser(images, told)
