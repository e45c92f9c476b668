"""The bare model, in processes side by side."""

import queue
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from imagewizard.benchmarks import bare
from tests.support.sample_files import write_photos

IMAGES = 5


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    write_photos(tmp_path, IMAGES, 32)
    return sorted(tmp_path.iterdir())


@pytest.fixture
def denoised(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images in each call of the model."""
    calls: list[int] = []
    load = bare.plain.load

    def counting(*arguments: object) -> object:
        denoiser = load(*arguments)  # type: ignore[arg-type]
        return lambda noisy, sigmas: (calls.append(len(noisy)), denoiser(noisy, sigmas))[1]

    monkeypatch.setattr(bare.plain, "load", counting)
    monkeypatch.setattr(bare.torch, "set_num_threads", lambda threads: None)  # this process keeps it
    pairs = SimpleNamespace(images_a_forward=lambda on_gpu: 2)
    monkeypatch.setattr(bare, "ResourcesSection", lambda: pairs)
    return calls


def test_a_loop_denoises_between_its_reported_times(photos: list[Path], tiny: str, denoised: list[int]) -> None:
    spans: queue.Queue = queue.Queue()
    before = time.time()
    bare._loop(photos, 25.0, tiny, 0, 1, 0.2, threading.Barrier(1), spans)
    start, end, images = spans.get_nowait()
    assert before < start and start + 0.2 < end < time.time()
    assert images == sum(denoised[1:]), "after one call to warm up"


def test_a_loop_without_time_denoises_one_batch(photos: list[Path], tiny: str, denoised: list[int]) -> None:
    spans: queue.Queue = queue.Queue()
    bare._loop(photos, 25.0, tiny, 0, 1, 0.0, threading.Barrier(1), spans)
    assert denoised == [2, 2] and spans.get_nowait()[2] == 2


def test_no_more_images_are_held_than_memory_is_given(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list(bare._noisy(photos, 25.0))) == IMAGES
    monkeypatch.setattr(bare, "HELD_BYTES", 32 * 32 * 3 * 4 * 2)
    assert len(list(bare._noisy(photos, 25.0))) == 3, "the one that goes beyond it is the last"


@pytest.mark.long
def test_the_rate_is_that_of_all_processes(photos: list[Path], tiny: str) -> None:
    started = time.perf_counter()
    rate = bare.rate(photos, 25.0, tiny, processes=2, threads=1, seconds=0.0)
    assert rate >= 2 / (time.perf_counter() - started), "their start counts for nothing"
