"""The scale benchmark measures a real job, and leaves it whole."""

from pathlib import Path

import pytest

from imagewizard.benchmarks import scale
from imagewizard.runs import summary

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_a_job_with_the_stand_in_is_measured(tmp_path: Path) -> None:
    cost = scale.measure(300, tmp_path)
    assert (cost.images, cost.files) == (300, 1)
    assert cost.most_files >= 1
    for name in ("milliseconds_per_image", "driver_megabytes", "workers_megabytes", "resume_seconds", "again_seconds"):
        assert getattr(cost, name) > 0, name
    found = summary.read(str(tmp_path / "run"))
    assert found is not None and (found["ok"], found["failed"]) == (300, 0)
    # the stand-in gives back what it got, rounded and clipped: far from the posterior mean
    [score] = found["scores"]
    assert score["psnr"] == pytest.approx(score["psnr_noisy"], abs=2.0)
