"""Which images a run trains on and validates with: listed once, found again after a move, never other ones."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from imagewizard.config.train import TrainConfig
from imagewizard.errors import UserError
from imagewizard.progress import silent
from imagewizard.schema import BYTES, IMAGE_ID, NOISY_URI, URI
from imagewizard.training import images as run_images
from imagewizard.training import job, versions
from tests.support.training_jobs import picture, train_config, write_pairs, write_photographs


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    return write_photographs(tmp_path / "photographs")


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, str]:
    return write_pairs(tmp_path / "pairs")


def begin(config: TrainConfig) -> pa.Table:
    return job.begin(job.prepare(config), lambda: None, silent)


def test_run_resumes_after_its_images_were_moved(photographs: Path, tmp_path: Path) -> None:
    config = train_config(photographs, tmp_path / "run")
    first = begin(config)
    assert first[IMAGE_ID].to_pylist() == [*(f"{i}.png" for i in range(6)), "broken.png"]
    moved = photographs.rename(tmp_path / "elsewhere")
    again = begin(train_config(moved, tmp_path / "run"))
    assert again[IMAGE_ID] == first[IMAGE_ID]
    assert again[URI].to_pylist() == [f"{moved}/train/{name}" for name in first[IMAGE_ID].to_pylist()]


@pytest.mark.parametrize(
    ("change", "told"), [("less", "1 are missing, 0 are new"), ("more", "0 are missing, 1 are new")]
)
def test_resume_with_other_images_is_refused(photographs: Path, tmp_path: Path, change: str, told: str) -> None:
    begin(train_config(photographs, tmp_path / "run"))
    other = shutil.copytree(photographs, tmp_path / "other")
    if change == "less":
        (other / "train" / "3.png").unlink()
    else:
        shutil.copy(other / "train" / "3.png", other / "train" / "9.png")
    with pytest.raises(UserError, match=rf"^data\.train: the run began with other images \({told}"):
        begin(train_config(other, tmp_path / "run"))


def test_images_are_trained_on_or_validated_with(photographs: Path, tmp_path: Path) -> None:
    config = train_config(photographs, tmp_path / "run", data={"validation": f"{photographs}/train"})
    with pytest.raises(UserError, match=r"^data\.validation: 7 of its images are trained on too .*give others"):
        job.task(job.prepare(config), begin(config), 1, 1)


# --- pairs


def test_pairs_come_after_the_other_images(photographs: Path, pairs: dict[str, str], tmp_path: Path) -> None:
    table = begin(train_config(photographs, tmp_path / "run", data={"pairs": pairs}))
    images = run_images.as_list(table)
    assert [image.key for image in images] == ["data.train"] * 7 + ["data.pairs"] * 3
    assert images[7:] == [
        (f"pairs/{i}", f"{pairs['clean']}/{i}_clean.png", f"{pairs['noisy']}/{i}_noisy.png") for i in range(3)
    ]
    sizes = [Path(image.uri).stat().st_size + Path(str(image.noisy_uri)).stat().st_size for image in images[7:]]
    assert table[BYTES].to_pylist()[7:] == sizes
    alone = begin(train_config(photographs, tmp_path / "alone", data={"pairs": pairs, "train": None}))
    assert run_images.as_list(alone) == images[7:]


def test_pairs_are_found_after_a_move_and_stay_those_of_the_first_start(
    photographs: Path, pairs: dict[str, str], tmp_path: Path
) -> None:
    def started(**named: Any) -> pa.Table:
        return begin(train_config(photographs, tmp_path / "run", data={"pairs": named, "train": None}))

    first = started(**pairs)
    Image.fromarray(picture(20, 20, 0)).save(tmp_path / "pairs" / "noisy" / "new.png")
    assert started(**pairs) == first  # as new images in the folder of data.train
    (tmp_path / "pairs" / "noisy" / "new.png").unlink()
    moved = shutil.move(pairs["noisy"], tmp_path / "elsewhere")
    again = started(noisy=str(moved), clean=pairs["clean"])
    assert again[IMAGE_ID] == first[IMAGE_ID] and again[URI] == first[URI]
    assert again[NOISY_URI].to_pylist() == [f"{moved}/{i}_noisy.png" for i in range(3)]
    for folder in (Path(pairs["clean"]), Path(moved)):
        next(folder.glob("1_*")).unlink()
    with pytest.raises(UserError, match=r"^data\.pairs: the run began with other images \(1 are missing, 0 are new"):
        started(noisy=str(moved), clean=pairs["clean"])


def test_a_run_keeps_its_kinds_of_images(photographs: Path, pairs: dict[str, str], tmp_path: Path) -> None:
    begin(train_config(photographs, tmp_path / "both", data={"pairs": pairs}))
    begin(train_config(photographs, tmp_path / "white"))
    with pytest.raises(UserError, match=r"^data\.pairs: the run began with them; give the same images, or another"):
        job.prepare(train_config(photographs, tmp_path / "both"))
    with pytest.raises(UserError, match=r"^data\.train: the run began with them"):
        job.prepare(train_config(photographs, tmp_path / "both", data={"pairs": pairs, "train": None}))
    with pytest.raises(UserError, match=r"^data\.pairs: the run began without them"):
        job.prepare(train_config(photographs, tmp_path / "white", data={"pairs": pairs}))


def test_unpaired_images_are_told_at_once(photographs: Path, pairs: dict[str, str], tmp_path: Path) -> None:
    (Path(pairs["clean"]) / "2_clean.png").unlink()
    config = train_config(photographs, tmp_path / "run", data={"pairs": pairs})
    with pytest.raises(UserError, match=r"^data\.pairs\.noisy: no clean image for 2_noisy\.png"):
        job.prepare(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("side", ["noisy", "clean"])
def test_images_of_pairs_are_not_validated_with(
    photographs: Path, pairs: dict[str, str], tmp_path: Path, side: str
) -> None:
    data = {"pairs": pairs, "validation": pairs[side]}
    config = train_config(photographs, tmp_path / "run", data=data)
    with pytest.raises(UserError, match=r"^data\.validation: 3 of its images are trained on too"):
        run_images.validation(config, begin(config))


def test_pairs_are_validated_with_after_the_other_images(
    photographs: Path, pairs: dict[str, str], tmp_path: Path
) -> None:
    config = train_config(photographs, tmp_path / "run", validation={"pairs": pairs})
    images = begin(config)
    found = run_images.validation(config, images)
    assert [image.validation_key for image in found] == ["data.validation"] * 3 + ["validation.pairs"] * 3
    assert found[3] == ("pairs/0", f"{pairs['clean']}/0_clean.png", f"{pairs['noisy']}/0_noisy.png")
    alone = train_config(photographs, tmp_path / "run", data={"validation": None}, validation={"pairs": pairs})
    assert run_images.validation(alone, images) == found[3:]
    trained = train_config(photographs, tmp_path / "other", data={"pairs": pairs}, validation={"pairs": pairs})
    with pytest.raises(UserError, match=r"^validation\.pairs: 6 of its images are trained on too"):
        run_images.validation(trained, begin(trained))
    (Path(pairs["noisy"]) / "2_noisy.png").unlink()
    with pytest.raises(UserError, match=r"^validation\.pairs\.clean: no noisy image for 2_clean\.png"):
        job.prepare(config)


def test_the_output_is_in_no_folder_of_pairs(photographs: Path, pairs: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"^output: .* lies in .*noisy, which is input"):
        job.prepare(train_config(photographs, Path(pairs["noisy"]) / "run", data={"pairs": pairs}))


# --- memory


def test_photographs_count_as_images_in_memory(photographs: Path, pairs: dict[str, str], tmp_path: Path) -> None:
    table = begin(train_config(photographs, tmp_path / "run", data={"pairs": pairs}))
    sizes = table[BYTES].to_pylist()
    plain = run_images.DECODED_BYTES * sum(sizes)
    more = plain + run_images.DECODED_BYTES * versions.PHOTOGRAPHS * sum(sizes[:7])
    for camera, needed in ((0.0, plain), (0.5, more)):
        for memory, fits in ((needed, True), (needed - 1, False)):
            data, resources = {"pairs": pairs, "camera": camera}, {"image_memory": memory}
            config = train_config(photographs, tmp_path / "run", data=data, resources=resources)
            assert run_images.fits_in_memory(config, table) == fits
