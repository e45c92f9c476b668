"""The stream of training samples: the same rows in the same order, however many workers share them."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from PIL import Image

from imagewizard.distributed import train_stream
from imagewizard.distributed.train_stream import StreamSamples, load_row
from imagewizard.training import samples as training_samples
from tests.support.training_jobs import picture, training_table, write_photographs

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs")) / "train"


def samples(folder: Path, **changes: Any) -> StreamSamples:
    table = training_table(folder)
    options = {"seed": 5, "crop": 16, "small": "pad", "micro_batch_size": 3, "camera": 0.0, "noisy": False} | changes
    return StreamSamples(images=ray.put(table), count=table.num_rows, **options)


def shares(wanted: StreamSamples, first_row: int, rows: int, workers: int) -> list[list[int]]:
    """The row numbers that each worker reads, all of them at once, as Ray Train's do."""
    dataset = train_stream.build(wanted, first_row, rows, 0.0)
    dataset.context.execution_options = train_stream.execution_options(wanted, workers)
    found: list[list[int]] = [[] for _ in range(workers)]

    def read(worker: int, split: Any) -> None:
        for batch in split.iter_batches(batch_size=1, batch_format="pyarrow"):
            found[worker] += batch["row"].to_pylist()

    readers = [
        threading.Thread(target=read, args=pair, daemon=True)
        for pair in enumerate(dataset.streaming_split(workers, equal=True))
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(timeout=120)
    return found


@pytest.mark.parametrize(("first", "rows", "workers"), [(0, 7, 1), (4, 40, 2), (3, 20, 3)])
def test_rows_are_dealt_out_in_turns(photographs: Path, first: int, rows: int, workers: int) -> None:
    found = shares(samples(photographs), first, rows, workers)
    each = (rows - first) // workers  # the remainder is dropped: hence the batch too many that a job asks for
    assert found == [list(range(first + worker, first + worker + each * workers, workers)) for worker in range(workers)]


def test_a_row_holds_the_crops_of_its_places(photographs: Path) -> None:
    found = load_row(4, samples(photographs))
    clean = np.frombuffer(found["clean"], np.uint8).reshape(3, 16, 16, 3)
    for i, position in enumerate(range(12, 15)):
        (epoch,), (index,) = training_samples.places(5, 7, position, 1)
        image_id = sorted(path.name for path in photographs.iterdir())[index]
        if image_id != "broken.png":
            assert (found["epochs"][i], found["image_ids"][i]) == (epoch, image_id)
            image = np.asarray(Image.open(photographs / image_id).convert("RGB"))
            np.testing.assert_array_equal(
                clean[i], training_samples.crop(image, 16, training_samples.key(5, image_id), epoch)
            )
    assert found["refused"] == []


def test_a_broken_image_is_told_and_the_next_stands_in(photographs: Path) -> None:
    wanted = samples(photographs, micro_batch_size=7)  # a row is an epoch
    found = load_row(0, wanted)
    assert "broken.png" not in found["image_ids"] and len(found["image_ids"]) == 7
    assert [text.split(":")[0] for text in found["skipped"]] == ["broken.png"]
    order = training_samples.places(5, 7, 0, 8)[1].tolist()
    broken = order.index(sorted(path.name for path in photographs.iterdir()).index("broken.png"))
    names = sorted(path.name for path in photographs.iterdir())
    assert found["image_ids"][broken] == names[order[broken + 1]]


def test_small_images_are_skipped_where_that_is_wanted(photographs: Path) -> None:
    found = load_row(0, samples(photographs, micro_batch_size=7, crop=32, small="skip"))
    assert set(found["image_ids"]) == {"0.png", "3.png", "4.png"}
    assert {text.split(":")[0] for text in found["skipped"]} == {"1.png", "2.png", "5.png", "broken.png"}
    assert any("smaller than the crop of 32" in text for text in found["skipped"])


def test_images_of_the_benchmark_are_told(tmp_path: Path, shared_data: Path) -> None:
    bear = sorted((shared_data / "cbsd68").glob("*.png"))[0]
    Image.open(bear).convert("RGB").save(tmp_path / "innocent.jpg", quality=90)
    found = load_row(0, samples(tmp_path, micro_batch_size=1))
    assert found["refused"][0].startswith("innocent.jpg is CBSD68's")


def test_nothing_usable_is_refused(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    assert "no other can be used either" in load_row(0, samples(tmp_path))["refused"][0]


def test_a_folder_of_one_image_is_an_epoch_of_one(tmp_path: Path) -> None:
    Image.fromarray(picture(20, 20, 0)).save(tmp_path / "only.png")
    found = load_row(2, samples(tmp_path))
    assert (found["epochs"], found["image_ids"]) == ([6, 7, 8], ["only.png"] * 3)
