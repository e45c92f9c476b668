"""A job's metrics, read as Prometheus reads them; those of a training are in test_train_job.py."""

import re
from pathlib import Path

import pytest

from imagewizard import config
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.distributed import denoise_job, telemetry
from tests.support import metrics_endpoint
from tests.support.sample_files import write_broken_files, write_photos
from tests.support.stand_ins import StandInActor

PAGE = Path(__file__).resolve().parents[2] / "docs" / "monitoring.md"


def test_the_page_lists_all_metrics() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w, ]+) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [
        (
            f"ray_{name}{'_total' if metric is telemetry.Counter else ''}",
            metric.__name__.lower(),
            ", ".join(kinds),
            meaning,
        )
        for name, (metric, kinds, meaning) in telemetry.METRICS.items()
    ]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.long
def test_a_denoise_jobs_metrics_are_served(tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 4, 32)
    write_broken_files(tmp_path / "in" / "broken", 2)
    words = [f"input={tmp_path}/in", f"output={tmp_path}/rün", "resources.actors=1"]
    denoise_job.execute(denoise_job.prepare(config.load(DenoiseConfig, None, words)), actor=StandInActor)
    expected = {
        "ray_imagewizard_rows_total": 6.0,
        "ray_imagewizard_failed_rows_total": 2.0,
        "ray_imagewizard_pending_rows": 0.0,
        "ray_imagewizard_images_per_second": 0.0,
    }
    assert metrics_endpoint.wait_for(f"{tmp_path}/r%C3%BCn", expected) == expected
