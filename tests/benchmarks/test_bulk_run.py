"""The bulk job that the benchmark times."""

from pathlib import Path

import pytest

from imagewizard.benchmarks import bulk_run
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.distributed import cluster
from imagewizard.errors import JobError
from imagewizard.query.sql import records_of
from imagewizard.runs import summary
from tests.support.run_folders import row, write_job, write_rows
from tests.support.sample_files import write_photos

IMAGES = 40


def test_a_row_that_is_missing_failed_or_unscored_is_an_error(tmp_path: Path) -> None:
    write_job(tmp_path, 3)
    write_rows(tmp_path, [row("a.png"), row("b.png")])
    bulk_run._check(str(tmp_path), 2)
    with pytest.raises(JobError, match="of 3 images 2 have a row, and 2 are ok and scored"):
        bulk_run._check(str(tmp_path), 3)


@pytest.mark.parametrize("values", [{"status": "error", "stage": "decode", "error": "broken"}, {"psnr": None}])
def test_a_row_without_scores_is_an_error(values: dict[str, object], tmp_path: Path) -> None:
    write_job(tmp_path, 2)
    write_rows(tmp_path, [row("a.png"), row("b.png", **values)])
    with pytest.raises(JobError, match="of 2 images 2 have a row, and 1 are ok and scored"):
        bulk_run._check(str(tmp_path), 2)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.long
@pytest.mark.parametrize("device_ms", [None, 1.0])
def test_a_whole_job_is_timed(device_ms: float | None, tmp_path: Path, tiny: str) -> None:
    write_photos(tmp_path / "in", IMAGES, 32)
    run = str(tmp_path / "run")
    config = DenoiseConfig.model_validate({"input": str(tmp_path / "in"), "output": run, "model": tiny})
    told: list[str] = []
    found = bulk_run.measure(config, device_ms, cluster.start, told.append)
    stored = summary.read(run)
    assert stored is not None and (stored["ok"], stored["failed"]) == (IMAGES, 0) and found.rows == IMAGES
    assert found.rate == stored["session"]["steady_rows_per_second"]
    assert found.rate_with_start == stored["session"]["rows_per_second"] > 0
    spent = {stage: 1000 * seconds / IMAGES for stage, seconds in stored["stage_cpu_seconds"].items()}
    assert found.stage_cpu_ms == spent and {"read", "decode", "noise", "denoise", "score"} <= spent.keys()
    assert any(f"{IMAGES}/{IMAGES} images" in line for line in told)
    # A stand-in's estimate is the noisy image, which gains by clipping alone; that of random weights loses.
    [gain] = records_of(run, "SELECT min(psnr - psnr_noisy) AS least, max(psnr - psnr_noisy) AS most FROM results")
    is_noisy_image = 0 <= gain["least"] <= gain["most"] < 3
    assert is_noisy_image == (device_ms is not None)
