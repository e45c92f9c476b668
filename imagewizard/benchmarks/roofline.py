"""How fast a network could be on this device: its operations, counted, over the device's rate of them, measured."""

import time

import torch

from imagewizard.benchmarks.rates import Roofline
from imagewizard.diffusion.denoiser import default_device, default_dtype
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.models import network

SECONDS = 1.5


def measure(unet: UNet2DModel, megapixels: float) -> Roofline:
    """The limit of one forward pass over images of so many 10^6 pixels, on the device of a bulk job."""
    device = default_device()
    dtype = default_dtype(device)
    flop = network.gflop_per_megapixel(unet) * 1e9 * megapixels
    return Roofline(flop, _matrix_rate(device, dtype), str(dtype).removeprefix("torch."))


def _matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the fastest of the products that are made in SECONDS: it is to be a limit."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times: list[float] = []
    while len(times) < 2 or sum(times) < SECONDS:  # the first one starts threads or kernels
        started = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times)
