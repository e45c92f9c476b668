"""What the pipeline is compared with."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from imagewizard.benchmarks import comparison
from imagewizard.benchmarks.comparison import Comparison
from imagewizard.benchmarks.rates import Roofline
from imagewizard.diffusion.denoiser import Denoiser
from tests.support.sample_files import write_photos


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    write_photos(tmp_path, 6, 32)
    return sorted(tmp_path.iterdir())


def test_all_parts_are_measured(photos: list[Path], tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the processes of the bare model and the matrix products, which tests of their own run."""
    Image.new("RGB", (96, 32)).save(photos[-1])
    loops: list[tuple[int, str, int]] = []
    rate = comparison.plain.rate

    def watched(paths: list[Path], sigma: float, denoiser: Denoiser, seconds: float) -> tuple[float, int]:
        loops.append((len(paths), denoiser.options.mode, denoiser.options.steps))
        return rate(paths, sigma, denoiser, seconds)

    asked: list[tuple[object, ...]] = []
    told: list[str] = []
    limit = Roofline(1.0, 1.0, "float32")
    monkeypatch.setattr(comparison.plain, "rate", watched)
    monkeypatch.setattr(comparison.bare, "rate", lambda paths, *rest: (asked.append((len(paths), *rest)), 30.0)[1])
    monkeypatch.setattr(comparison.roofline, "measure", lambda unet, size: (asked.append((size,)), limit)[1])
    found = Comparison(tiny, 25.0, 3, 2).measure(photos, told.append)
    assert [(number, mode) for number, mode, _ in loops] == [(6, "mmse"), (4, "ddim")] and loops[1][2] == 50
    assert asked == [(6, 25.0, tiny, 3, 2, comparison.BARE_SECONDS), (pytest.approx(8 * 32 * 32 / 6 / 1e6),)]
    assert found.plain is not None and found.ddim is not None and found.plain > found.ddim > 0
    assert (found.bare, found.ddim_images, found.roofline) == (30.0, 4, limit)
    assert len(told) == 4


def test_no_process_goes_without_an_image(photos: list[Path], tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    processes: list[int] = []
    monkeypatch.setattr(comparison.bare, "rate", lambda *words: (processes.append(words[3]), 1.0)[1])
    monkeypatch.setattr(comparison.roofline, "measure", lambda unet, size: None)
    Comparison(tiny, 25.0, 3, 1).measure(photos[:2], lambda text: None)
    assert processes == [2]


def test_a_quick_rate_is_that_of_all_processes(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 9.0, 10.0, 10.5, 20.0, 20.1, 30.0, 30.2])  # 9 s to warm up, then 0.5, 0.1 and 0.2 s
    threads: list[int] = []
    monkeypatch.setattr(comparison.torch, "set_num_threads", threads.append)
    model = Comparison(tiny, 25.0, processes=3, threads=7)
    monkeypatch.setattr(comparison.time, "perf_counter", lambda: next(ticks))
    assert model.quick_rate(32) == pytest.approx(3 / 0.2)
    assert threads == [7, torch.get_num_threads()]
