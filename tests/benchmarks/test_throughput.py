"""The throughput benchmark does the same work in three ways, and its rates match an independent clock."""

import queue
import threading
import time
from pathlib import Path

import pytest
import skimage.metrics

from imagewizard.benchmarks import throughput
from imagewizard.errors import UserError
from imagewizard.runs import job
from tests.support.models import tiny_model
from tests.support.sample_files import write_photos

IMAGES = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("tiny"), k=2))


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    write_photos(tmp_path / "in", IMAGES, 32)
    return sorted((tmp_path / "in").iterdir())


def test_the_plain_loop_scores_every_image_before_and_after(
    photos: list[Path], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[str] = []
    for name in ("peak_signal_noise_ratio", "structural_similarity"):
        theirs = getattr(skimage.metrics, name)
        monkeypatch.setattr(
            skimage.metrics, name, lambda *a, theirs=theirs, name=name, **k: (scored.append(name), theirs(*a, **k))[1]
        )
    started = time.perf_counter()
    rate = throughput._plain_rate(photos, 25.0, model)
    assert rate >= IMAGES / (time.perf_counter() - started), "the model's start counts for nothing"
    assert len(scored) == 4 * IMAGES


def test_the_bare_loop_denoises_its_share_between_its_reported_times(
    photos: list[Path], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoised: list[int] = []
    load = throughput._load

    def counting(name: str, batch: int) -> object:
        denoiser = load(name, batch)
        return lambda noisy, sigmas: (denoised.append(len(noisy)), denoiser(noisy, sigmas))[1]

    monkeypatch.setattr(throughput, "_load", counting)
    monkeypatch.setattr(throughput.torch, "set_num_threads", lambda threads: None)  # this process keeps it
    spans: queue.Queue = queue.Queue()
    before = time.time()
    throughput._bare_loop(photos, 25.0, model, threading.Barrier(1), spans)
    start, end = spans.get_nowait()
    assert before < start < end < time.time()
    assert sum(denoised[1:]) == IMAGES, "after one call to warm up"


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.long
def test_the_pipelines_rates_are_those_of_a_bulk_job_on_the_same_images(
    photos: list[Path], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skips the other two ways, which the tests above run."""
    monkeypatch.setattr(throughput, "_bare_rate", lambda paths, sigma, name: 2.0 * len(paths))
    monkeypatch.setattr(throughput, "_plain_rate", lambda paths, sigma, name: 1.0 * len(paths))
    summaries: list[dict] = []
    execute, told = throughput.denoise_job.execute, []

    def watched(plan: object, **options: object) -> dict:
        summaries.append(execute(plan, **options))  # type: ignore[arg-type]
        stored = job.read_job(plan.config.output)  # type: ignore[attr-defined]
        assert stored is not None and stored["config"]["noise"]["sigma"] == [15.0]
        return summaries[-1]

    monkeypatch.setattr(throughput.denoise_job, "execute", watched)
    rates = throughput.measure(str(photos[0].parent), 15.0, model, told.append)
    [summary] = summaries
    assert (summary["ok"], summary["failed"]) == (IMAGES, 0)
    assert rates.pipeline_with_start == summary["session"]["rows_per_second"] > 0
    assert rates.pipeline >= rates.pipeline_with_start
    assert (rates.bare, rates.plain) == (2.0 * IMAGES, 1.0 * IMAGES)
    assert told[0].startswith(f"{IMAGES} images") and len(told) == 3


def test_a_folder_without_images_is_refused(tmp_path: Path, model: str) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(UserError, match=r"^--images: .* holds no image; "):
        throughput.measure(str(tmp_path), 25.0, model, print)
