"""Every execution of Ray Data, a job's and a training's stream's, keeps the pace."""

from pathlib import Path

import pyarrow as pa
import pytest
import ray
from PIL import Image
from ray.data import DataContext

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


def test_a_configured_chain(pauses: list[float]) -> None:
    dataset = ray.data.range(3)
    cluster.configure(dataset.context)
    rows = dataset.map(lambda row: row).take_all()
    assert sorted(row["id"] for row in rows) == [0, 1, 2]
    assert set(pauses) == {cluster.PAUSE_SECONDS}


def test_other_chains_of_the_process_are_left_as_they_were(pauses: list[float]) -> None:
    before = DataContext.get_current().copy()
    cluster.configure(ray.data.range(3).context)
    assert len(ray.data.range(3).map(lambda row: row).take_all()) == 3 and not pauses
    after = DataContext.get_current()
    for name in ("enable_progress_bars", "target_max_block_size", "raise_original_map_exception", "execution_options"):
        assert getattr(after, name) == getattr(before, name), name


def test_a_trainings_stream(tmp_path: Path, pauses: list[float]) -> None:
    Image.fromarray(picture(20, 20, 0)).save(tmp_path / "only.png")
    images = ray.put(pa.concat_tables(listing.batches(str(tmp_path), Tally())))
    samples = train_stream.Samples(images, count=1, seed=0, crop=16, small="pad", micro_batch_size=1)
    dataset = train_stream.build(samples, 0, 3)
    assert dataset.context.custom_execution_callback_classes == [cluster.Pace]
    assert len(dataset.take_all()) == 3 and pauses
