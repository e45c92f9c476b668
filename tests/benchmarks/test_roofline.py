"""The limit of a network."""

from types import SimpleNamespace

import pytest
import torch

from imagewizard.benchmarks import roofline
from imagewizard.models import files, network


def test_the_limit_is_that_of_the_fastest_product(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 3.0, 10.0, 10.5, 20.0, 21.0])  # products of 3, 0.5 and 1 s
    monkeypatch.setattr(roofline, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(roofline, "SECONDS", 4.0)
    unet, _ = network.load(files.find(tiny))
    limit = roofline.measure(unet, 0.5)
    size = 8192 if torch.cuda.is_available() else 2048
    assert limit.flop_per_second == 2 * size**3 / 0.5
    assert limit.flop_per_image == pytest.approx(network.gflop_per_megapixel(unet) * 0.5e9)
    assert limit.dtype in ("float32", "bfloat16", "float16")
    assert next(ticks, None) is None
