"""Finds by measurement how many tiles a network should take at once: enough to keep its device busy, and no more."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from imagewizard.config.denoise import CPU_BATCH_SIZE
from imagewizard.diffusion.fast_forward import StaticForward, capture_memory
from imagewizard.diffusion.sampling import network_inputs
from imagewizard.diffusion.unet import UNet2DModel

MEMORY_SHARE = 0.4
"""Share of the free memory that a batch may take: a graph's memory is held beside that of batches without one."""
MOST = 1024
TOLERANCE = 0.03
"""A batch of half the size is taken if it costs no more than this share of the rate."""


class Trial(NamedTuple):
    """What a forward pass of a batch took."""

    seconds: float
    memory: int
    """Bytes at its peak, beside what was there before."""


@torch.inference_mode()
def found(unet: UNet2DModel, tile: torch.Size) -> int:
    """Tiles of shape (3, H, W) at once, for a network on its own device; on a CPU CPU_BATCH_SIZE, without measuring.

    Each size tried costs some forward passes. Raises torch.OutOfMemoryError if not even one tile fits.
    """
    device = unet.device
    if device.type != "cuda":
        return CPU_BATCH_SIZE
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info(device)[0]
    best = smallest_good(lambda count: _trial(unet, tile, count), MEMORY_SHARE * free)
    torch.cuda.empty_cache()
    return best


def smallest_good(trial: Callable[[int], Trial], memory: float) -> int:
    """The smallest of 1, 2, 4, … whose rate is within TOLERANCE of the best that fits into `memory` bytes.

    `trial` raises torch.OutOfMemoryError for a batch that does not fit; if that is a single tile, so does this.
    """
    rates: dict[int, float] = {}
    count = 1
    while count <= MOST:
        try:
            seconds, taken = trial(count)
        except torch.OutOfMemoryError:
            if count == 1:
                raise
            break
        if count > 1 and taken > memory:
            break
        rates[count] = count / seconds
        # Two doublings in vain: the device is busy. And what a batch takes grows with it.
        if rates[count] * (1.0 - TOLERANCE) <= rates.get(count // 4, 0.0) or 2 * taken > memory:
            break
        count *= 2
    least = (1.0 - TOLERANCE) * max(rates.values())
    return min(count for count, rate in rates.items() if rate >= least)


def _trial(unet: UNet2DModel, tile: torch.Size, count: int) -> Trial:
    """The pass as a bulk job will run it, as a graph. The graph is dropped."""
    device = unet.device
    noisy, timesteps = torch.zeros(count, *tile, device=device), torch.zeros(count, device=device)
    inputs = network_inputs(unet, noisy, timesteps)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    forward = StaticForward(unet, *inputs, capture_memory(device))
    return Trial(forward.seconds, torch.cuda.max_memory_allocated(device) - before)
