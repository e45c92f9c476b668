"""The scale benchmark measures a real job without its network; the run is complete."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagewizard import schema
from imagewizard.benchmarks import scale
from imagewizard.query import sql
from imagewizard.runs import status, summary

IMAGES = 300


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.long
def test_a_job_with_the_stand_in_is_measured(tmp_path: Path) -> None:
    started = time.perf_counter()
    cost = scale.measure(IMAGES, tmp_path)
    elapsed = time.perf_counter() - started
    run = str(tmp_path / "run")

    parts = (cost.manifest_seconds, cost.seconds, cost.resume_seconds, cost.again_seconds)
    assert all(0 < part < elapsed for part in parts) and sum(parts) < elapsed
    assert cost.again_seconds < cost.seconds, "a job that is done takes less than doing it"
    blocks = len(list((tmp_path / "run" / "results").iterdir()))
    assert (cost.images, cost.files) == (IMAGES, 1)
    assert 1 <= cost.most_files <= IMAGES
    # The steady part, from the first commit on, is shorter than the whole job.
    assert 0 < cost.milliseconds_per_image * IMAGES / 2 / 1000 < cost.seconds
    assert cost.driver_megabytes > 50 and cost.workers_megabytes > 100, "an interpreter; Ray and its workers"
    assert 0 < cost.megabytes < 1 and cost.driver_milliseconds_per_block > 0
    assert blocks > 1, "the time to find out what is left was taken on blocks, some of which are missing"

    found = summary.read(run)
    assert found is not None and (found["ok"], found["failed"]) == (IMAGES, 0)
    assert 0 < status.read(run).pending <= 2 * scale.LEFT * IMAGES + 64


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.long
def test_the_stand_ins_rows_are_complete(tmp_path: Path) -> None:
    scale.measure(100, tmp_path)
    rows = sql.records_of(str(tmp_path / "run"), "SELECT * FROM results")
    for row in rows:
        assert (row[schema.STATUS], row[schema.WIDTH], row[schema.SIGMA]) == ("ok", scale.SIDE, 25.0)
        # The output is the noisy image, clipped and rounded; it gains only by clipping.
        assert 0 < row["psnr"] - row["psnr_noisy"] < 3.0


def test_the_stand_in_needs_no_torch() -> None:
    code = "import sys; from imagewizard.benchmarks import scale; assert not {'torch', 'diffusers'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
