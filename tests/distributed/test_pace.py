"""Every execution of Ray Data, a job's and a training's stream's, keeps the pace."""

from pathlib import Path

import pyarrow as pa
import pytest
import ray
from PIL import Image

from imagewizard.distributed import cluster, train_stream
from imagewizard.manifest import listing
from imagewizard.manifest.tally import Tally
from tests.support.training_jobs import picture

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that are made in this process."""
    made: list[float] = []
    sleep = cluster.time.sleep
    monkeypatch.setattr(cluster, "time", type("Clock", (), {"sleep": lambda s: (made.append(s), sleep(s))}))
    return made


def test_a_jobs_chain(pauses: list[float]) -> None:
    rows = ray.data.range(3).map(lambda row: row).take_all()
    assert sorted(row["id"] for row in rows) == [0, 1, 2]
    assert set(pauses) == {cluster.PAUSE_SECONDS}


def test_a_trainings_stream(tmp_path: Path, pauses: list[float]) -> None:
    Image.fromarray(picture(20, 20, 0)).save(tmp_path / "only.png")
    images = ray.put(pa.concat_tables(listing.batches(str(tmp_path), Tally())))
    samples = train_stream.Samples(images, count=1, seed=0, crop=16, small="pad", micro_batch_size=1)
    dataset = train_stream.build(samples, 0, 3)
    assert dataset.context.custom_execution_callback_classes == [cluster.Pace]
    assert len(dataset.take_all()) == 3 and pauses
