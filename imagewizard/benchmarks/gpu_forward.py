"""Steps of gpu_check: a network's forward pass, launched kernel by kernel, as a CUDA graph, and compiled."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagewizard.benchmarks.bench import Bench
from imagewizard.diffusion import batch_size, compile_cache
from imagewizard.diffusion.fast_forward import EAGER_CALLS, FastForward
from imagewizard.diffusion.sampling import network_inputs, predict
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.models import files as model_files
from imagewizard.models import network

TRITON_VARIABLE = "TRITON_CACHE_DIR"
"""Where Triton keeps its kernels, once torch has chosen a place for them."""


def embedded() -> UNet2DModel:
    """The embedded network."""
    return network.load(model_files.find("embedded"))[0]


def measure(bench: Bench, unet: UNet2DModel, batch: int) -> dict[str, Any]:
    """Images a second of a network in a bulk job's precision, their share of the matrix product, and the best batch.

    Without a GPU the `graph` is the same in buffers of one shape.
    """
    inputs = _inputs(bench, unet, batch)
    flop = _flop(bench, unet)
    with torch.inference_mode():
        found = _rates(bench, "eager", unet, inputs, flop) | _rates(
            bench, "graph", _captured(unet, inputs), inputs, flop
        )
        best = batch_size.found(unet, torch.Size((3, bench.side, bench.side)))
    return {"images": f"{batch} of {bench.side}x{bench.side}"} | found | {"batch size that is measured": best}


def measure_compiled(bench: Bench, unet: UNet2DModel, batch: int) -> dict[str, Any]:
    """Seconds until it is compiled, with an empty cache and with its own; then as `measure`, as a graph.

    The second time is that of a process that has torch's compiler loaded: an actor that starts takes some more.
    """
    inputs = _inputs(bench, unet, batch)
    flop = _flop(bench, unet)
    seconds = []
    with torch.inference_mode(), _empty_cache():
        for _ in range(2):
            torch.compiler.reset()
            started = time.perf_counter()
            compiled = torch.compile(unet, dynamic=False)
            compiled(*network_inputs(unet, *inputs), return_dict=False)
            bench.wait()
            seconds.append(time.perf_counter() - started)
        rates = _rates(bench, "compiled", _captured(compiled, inputs), inputs, flop)
    return {"seconds to compile": seconds[0], "seconds with a warm cache": seconds[1]} | rates


def _inputs(bench: Bench, unet: UNet2DModel, batch: int) -> tuple[Tensor, Tensor]:
    """Noisy images and timesteps on the device, to which the network is moved."""
    torch.nn.Module.to(unet, bench.device, bench.dtype)
    unet.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    x = torch.randn(batch, 3, bench.side, bench.side, device=bench.device)
    return x, torch.full((batch,), 50.0, device=bench.device)


def _flop(bench: Bench, unet: UNet2DModel) -> float:
    """Floating-point operations an image."""
    return network.gflop_per_megapixel(unet) * 1e9 * bench.side**2 / 1e6


def _captured(unet: UNet2DModel, inputs: tuple[Tensor, Tensor]) -> FastForward:
    """As a bulk job runs it once a shape has come often enough."""
    fast = FastForward(unet)
    for _ in range(EAGER_CALLS + 1):
        predict(fast, *inputs)
    return fast


def _rates(bench: Bench, form: str, unet: Any, inputs: tuple[Tensor, Tensor], flop: float) -> dict[str, float]:
    rate = bench.rate(lambda: predict(unet, *inputs), 3.0) * len(inputs[0])
    return {
        f"{form}, images a second": rate,
        f"{form}, TFLOP/s": rate * flop / 1e12,
        f"{form}, share of product": rate * flop / bench.matrix_rate,
    }


@contextmanager
def _empty_cache() -> Iterator[None]:
    """A context in which torch.compile finds nothing that was compiled before it, and leaves nothing."""
    names = compile_cache.VARIABLE, TRITON_VARIABLE
    before = {name: os.environ.get(name) for name in names}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ |= {name: str(Path(folder) / name.lower()) for name in names}
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value
