"""What the steps of gpu_check share: the device, the sizes of its problems, and how a rate is measured on it."""

import time
from collections.abc import Callable

import torch

from imagewizard.diffusion.denoiser import default_device, default_dtype


class Bench:
    """State that the steps share: the device, problem sizes, and rates measured so far."""

    def __init__(self) -> None:
        self.device = default_device()
        self.dtype = default_dtype(self.device)
        self.gpu = self.device.type == "cuda"
        self.side = 256 if self.gpu else 64
        self.matrix_rate = 0.0
        """Floating-point operations per second of a large bfloat16 matrix product."""

    def rate(self, work: Callable[[], object], seconds: float) -> float:
        """Calls per second, measured for `seconds` after a warm-up; without a GPU for an eighth of that."""
        seconds = seconds if self.gpu else seconds / 8
        for _ in range(2):
            work()
        self.wait()
        started, calls = time.perf_counter(), 0
        while (spent := time.perf_counter() - started) < seconds:
            for _ in range(4 if self.gpu else 1):
                work()
                calls += 1
            self.wait()
        return calls / spent if spent else 0.0

    def wait(self) -> None:
        """Waits until the device has finished its queue."""
        if self.gpu:
            torch.cuda.synchronize()
