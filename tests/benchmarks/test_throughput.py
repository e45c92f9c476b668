"""The throughput benchmark: what it measures on, with what, and how it keeps to its time."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from imagewizard.benchmarks import throughput
from imagewizard.benchmarks.rates import Compared, Request, Run
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.errors import UserError
from tests.support.sample_files import write_photos

DEVICE = Request(None, 40, None, 25.0, "embedded", 4.0, None)
MODEL = replace(DEVICE, device_ms=None)
RUN = Run(40, 100.0, 50.0, {"denoise": 1.0}, 3.0)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[DenoiseConfig, float | None]]:
    """The bulk jobs, which are not run; nor are Ray, the model, and the loops over it."""
    found: list[tuple[DenoiseConfig, float | None]] = []
    share = SimpleNamespace(actors=3, threads_per_actor=2, gpus_per_actor=0.0)
    monkeypatch.setattr(throughput, "allocate", lambda resources: share)
    monkeypatch.setattr(throughput.stand_in, "bare_rate", lambda ms, devices: devices * 900 / ms)
    monkeypatch.setattr(throughput, "_expected_rate", lambda images, sigma, bare, on_cpu: bare)

    def run(config: DenoiseConfig, device_ms: float | None, start: object, report: object) -> Run:
        found.append((config, device_ms))
        return RUN

    monkeypatch.setattr(throughput.bulk_run, "measure", run)
    return found


def measure(request: Request, scratch: Path, started: float | None = None) -> Any:
    started = time.monotonic() if started is None else started
    return throughput.measure(request, scratch, started, lambda address, report: None, lambda text: None)


def model_of(monkeypatch: pytest.MonkeyPatch, rate: float, bare: float = 1000.0) -> None:
    """A model that denoises so many images of 256x256 a second, and `bare` images of whatever size it is given."""
    model = SimpleNamespace(
        quick_rate=lambda side: rate * (256 / side) ** 2, measure=lambda paths, report: Compared(bare, 1.0)
    )
    monkeypatch.setattr(throughput, "_comparison", lambda request, share: model)


def test_a_stand_in_has_one_actor_and_crops_of_the_usual_size(
    jobs: list[tuple[DenoiseConfig, float | None]], tmp_path: Path
) -> None:
    found = measure(DEVICE, tmp_path)
    [(config, device_ms)] = jobs
    assert device_ms == 4.0 and (config.resources.actors, config.resources.gpus_per_actor) == (1, 0)
    assert len(list(Path(str(config.input)).iterdir())) == 40
    assert (found.images, found.notes) == ("40 JPEG crops of 256x256", [])
    assert (found.actors, found.threads, found.on_cpu, found.run) == (3, 2, False, RUN)
    assert found.compared == Compared(3 * 900 / 4.0)


def test_what_is_asked_for_is_what_is_measured(jobs: list[tuple[DenoiseConfig, float | None]], tmp_path: Path) -> None:
    measure(replace(DEVICE, size=20, actors=2, sigma=50.0), tmp_path)
    [(config, _)] = jobs
    assert config.resources.actors == 2 and config.noise is not None and config.noise.sigma == [50.0]


@pytest.mark.parametrize(("rate", "size"), [(1000.0, 256), (10.0, 128), (0.001, 64)])
def test_a_slow_model_gets_smaller_crops_and_the_reader_is_told(
    rate: float, size: int, jobs: list[tuple[DenoiseConfig, float | None]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model_of(monkeypatch, rate)
    found = measure(replace(MODEL, count=2500), tmp_path)
    assert found.images.endswith(f"crops of {size}x{size}") and found.on_cpu
    assert found.notes == ([] if size == 256 else ["smaller crops: 2,500 of 256x256 would take over 5 minutes"])
    assert jobs[0][0].resources.actors == "auto" and jobs[0][0].limit == 2500


def test_a_size_that_is_given_is_kept_and_the_images_are_fewer(
    jobs: list[tuple[DenoiseConfig, float | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_of(monkeypatch, 0.1, bare=0.1)
    found = measure(replace(MODEL, size=256), tmp_path)
    limit = jobs[0][0].limit
    # 300 s, of which 40 are for the actors' start and the end.
    assert limit is not None and 10 <= limit <= 0.6 * 260 * 0.1
    assert found.notes == [f"only {limit} of 40 images, to end in 5 minutes"]


def test_time_that_is_spent_already_counts(jobs: list[tuple[DenoiseConfig, float | None]], tmp_path: Path) -> None:
    measure(replace(DEVICE, device_ms=900.0), tmp_path, started=time.monotonic() - 250.0)
    limit = jobs[0][0].limit
    assert limit is not None and limit <= 0.6 * 10 * 3, "10 s are left, for 3 devices"


def test_the_images_of_a_folder(jobs: list[tuple[DenoiseConfig, float | None]], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_photos(folder / "deep", 5, 16)
    (folder / "notes.txt").write_text("none")
    found = measure(replace(DEVICE, folder=str(folder), count=None), tmp_path)
    measure(replace(DEVICE, folder=str(folder), count=3), tmp_path)
    assert [(config.input, config.limit) for config, _ in jobs] == [(str(folder), None), (str(folder), 3)]
    assert found.images == f"{RUN.rows} images of {folder}"


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(UserError, match=r"^input: .* holds no image; "):
            measure(replace(DEVICE, folder=str(folder)), tmp_path)


def test_a_level_beyond_the_model_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sigma"):
        measure(replace(DEVICE, sigma=1e6), tmp_path)


def test_the_expected_rate_shares_the_cores_with_a_model_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images take 0.1 s of one of four cores: 80 a second without the model."""
    images = [np.zeros((16, 16, 3), np.uint8)] * 2
    monkeypatch.setattr(throughput.cluster, "available_cpus", lambda: 4)
    for bare, on_cpu, expected in ((20.0, True, 16.0), (20.0, False, 20.0), (200.0, False, 80.0)):
        ticks = iter([5.0, 5.1])
        monkeypatch.setattr(throughput.time, "process_time", lambda ticks=ticks: next(ticks))
        assert throughput._expected_rate(images, 25.0, bare, on_cpu) == pytest.approx(expected)
