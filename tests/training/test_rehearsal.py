"""A dry run finds in the images what the run itself would find, and leaves no trace in its folder."""

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imagewizard.config.train import TrainConfig
from imagewizard.errors import UserError
from imagewizard.progress import silent
from imagewizard.training import job
from imagewizard.training.rehearsal import rehearse
from tests.support.bsds500_files import FINGERPRINTS, picture
from tests.support.training_jobs import train_config, write_pairs, write_photographs


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    return write_photographs(tmp_path / "photographs")


def told(config: TrainConfig) -> list[str]:
    """The lines of a dry run."""
    lines: list[str] = []
    rehearse(job.prepare(config), lines.append)
    return lines


def config(photographs: Path, **changes: Any) -> TrainConfig:
    return train_config(photographs, photographs.parent / "run", **changes)


def pack(folder: Path, name: str) -> Path:
    """A tar shard of a folder's images, beside it."""
    path = folder.parent / name
    with tarfile.open(path, "w") as shard:
        for image in sorted(folder.iterdir()):
            shard.add(image, image.name)
    return path


def test_it_counts_the_images_and_names_those_that_cannot_be_used(photographs: Path) -> None:
    (photographs / "validation" / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    first, broken, cut = told(config(photographs))
    assert first == "images   7 to train on, 4 to validate with"
    assert broken.startswith("not used: broken.png: ") and cut.startswith("not used: cut.jpg: ")
    assert not (photographs.parent / "run").exists()
    skipped = told(config(photographs, data={"crop": 32, "small": "skip"}))
    assert len([line for line in skipped if line.endswith("smaller than the crop of 32")]) == 3


def test_a_set_that_is_streamed_is_read_until_one_image_can_be_used(photographs: Path) -> None:
    lines = told(config(photographs, resources={"image_memory": 0}))
    assert lines == ["images   7 to train on, 3 to validate with"]


def test_pairs_are_read_too(photographs: Path) -> None:
    pairs = write_pairs(photographs.parent / "pairs")
    lines = told(config(photographs, data={"pairs": pairs}))
    assert lines[0] == "images   10 to train on, 3 to validate with"
    assert lines[2] == "not used: pairs/1: its noisy and its clean image differ in size (41 x 34 and 41 x 35)"
    assert not (photographs.parent / "run").exists()
    name, digits = next(iter(FINGERPRINTS.items()))
    original = (Path(pairs["noisy"]) / "0_noisy.png").read_bytes()
    Image.fromarray(picture(digits)).save(Path(pairs["noisy"]) / "0_noisy.png")
    with pytest.raises(UserError, match=rf"^data\.pairs: pairs/0 is CBSD68's {name}"):
        told(config(photographs, data={"pairs": pairs}))
    (Path(pairs["noisy"]) / "0_noisy.png").write_bytes(original)
    for path in Path(pairs["noisy"]).iterdir():
        path.write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"^data\.pairs: pairs/0: .*, and no other can be used either"):
        told(config(photographs, data={"pairs": pairs, "train": None}))


@pytest.mark.parametrize("which", ["train", "validation"])
def test_packed_images_are_refused(photographs: Path, which: str) -> None:
    shard = pack(photographs / which, "shard.tar")
    with pytest.raises(UserError, match=rf"^data\.{which}: .* in tar shards .*shard\.tar#0\.png among them"):
        job.prepare(config(photographs, data={which: str(shard)}))
    shutil.move(shard, photographs / which / "shard.tar")  # behind images of their own: found by the whole listing
    with pytest.raises(UserError, match=rf"^data\.{which}: \d of its images are in tar shards or Parquet"):
        told(config(photographs))
    with pytest.raises(UserError, match=rf"^data\.{which}: \d of its images are in tar shards"):
        plan = job.prepare(config(photographs))
        job.task(plan, job.begin(plan, lambda: None, silent), 1, 1)


@pytest.mark.parametrize("which", ["train", "validation"])
def test_sets_of_which_no_image_can_be_used(photographs: Path, which: str) -> None:
    for path in (photographs / which).iterdir():
        path.write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=rf"^data\.{which}: 0\.png: .*, and no other can be used either"):
        told(config(photographs))
    shutil.rmtree(photographs / which)
    (photographs / which).mkdir()
    with pytest.raises(UserError, match=rf"^data\.{which}: .* holds no image"):
        told(config(photographs))


@pytest.mark.parametrize("which", ["train", "validation"])
def test_images_of_the_benchmark_are_refused(photographs: Path, which: str) -> None:
    name, digits = next(iter(FINGERPRINTS.items()))
    Image.fromarray(picture(digits)).save(photographs / which / "z.png")
    with pytest.raises(UserError, match=rf"^data\.{which}: z\.png is CBSD68's {name}"):
        told(config(photographs))


def test_images_that_are_trained_on_and_validated_with(photographs: Path) -> None:
    with pytest.raises(UserError, match=r"^data\.validation: 7 of its images are trained on too"):
        told(config(photographs, data={"validation": f"{photographs}/train"}))


def test_a_resume_with_other_images_is_refused_and_changes_nothing(photographs: Path) -> None:
    run = photographs.parent / "run"
    job.begin(job.prepare(config(photographs)), lambda: None, silent)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert told(config(photographs))[0] == "images   7 to train on, 3 to validate with"
    other = shutil.copytree(photographs, photographs.parent / "other")
    (other / "train" / "3.png").unlink()
    with pytest.raises(UserError, match=r"^data\.train: the run began with other images"):
        told(train_config(other, run))
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
