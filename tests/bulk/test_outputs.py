"""Denoised images leave a block as files or as a tar shard, and each row tells where its own is."""

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagewizard.bulk import outputs
from imagewizard.bulk.block import Block
from imagewizard.config.denoise import ImagesSection
from imagewizard.images.picture import Picture
from imagewizard.noise.synthetic import Camera, PoissonGaussian
from imagewizard.runs.results import BlockFile
from imagewizard.schema import RESULT_SCHEMA
from imagewizard.sources import reading
from tests.support.run_folders import error_row, restored, row
from tests.support.sample_files import photo
from tests.support.sample_metadata import everything

PNG = ImagesSection(format="png")
TAR = ImagesSection(format="png", pack="tar")
NOTES = {"a": None, "b": "a note"}


def block(*rows: dict) -> Block:
    return Block(BlockFile(0, 3, 2), list(rows))


def denoised(image_id: str, seed: int = 0, side: int = 8, **changes: object) -> dict:
    return encoded(Picture(photo(side, side, seed)), PNG, **(changes | {"image_id": image_id}))


def encoded(picture: Picture, section: ImagesSection, **known: Any) -> dict:
    """A row with its image's file."""
    found = row(**known)
    outputs.encode(picture, found, section)
    return found


def pixels(origin: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(reading.read_origin(origin))))


@pytest.mark.parametrize("section", [PNG, TAR])
def test_output_uri_finds_each_image_again(tmp_path: Path, section: ImagesSection) -> None:
    names = [
        ("dogs/a.jpg", 15.0),
        ("dogs/a.jpg", 25.0),
        ("dogs/a.jpg", 25.00000001),
        ("dogs/a.png", 25.0),
        ("../b#1.PNG", 25.0),
        ("x.tar#y/z", 25.0),
    ]
    work = block(*(denoised(name, seed, sigma=sigma) for seed, (name, sigma) in enumerate(names)))
    table = outputs.write(work, str(tmp_path), section)
    assert table.schema == RESULT_SCHEMA
    uris = table["output_uri"].to_pylist()
    assert len(set(uris)) == len(names)
    for seed, uri in enumerate(uris):
        assert uri.startswith(f"{tmp_path}/images/")
        np.testing.assert_array_equal(pixels(uri), photo(8, 8, seed))
    assert "write" in work.times.wall


def test_files_mirror_the_inputs_tree(tmp_path: Path) -> None:
    rows = outputs.write(block(denoised("dogs/a.jpg", sigma=15.0)), str(tmp_path), PNG).to_pylist()
    assert rows[0]["output_uri"] == f"{tmp_path}/images/sigma15/dogs/a.jpg.png"
    same = restored("dogs/a.jpg", 12.0) | {"encoded": denoised("a")["encoded"]}
    rows = outputs.write(block(same), str(tmp_path), PNG).to_pylist()
    assert rows[0]["output_uri"] == f"{tmp_path}/images/dogs/a.jpg.png"


def test_other_noises_have_a_folder_for_each_setting(tmp_path: Path) -> None:
    noises = [PoissonGaussian(0.5, 4.0), PoissonGaussian(0.5, 1e-5), Camera(gain=4.0)]
    rows = [denoised("a.png", noise_kind=n.kind, noise_params=n.params(), sigma=None) for n in noises]
    uris = outputs.write(block(*rows), str(tmp_path), PNG)["output_uri"].to_pylist()
    folders = [uri.removeprefix(f"{tmp_path}/images/").removesuffix("/a.png.png") for uri in uris]
    assert folders == [
        "a0.5-b4",
        "a0.5-b1e-05",
        "blue1.6-colour_smoothing0.7-contrast1-gain4-quality92-red2-smoothing0.5-subsampling422",
    ]


def test_a_blocks_shard_has_its_name_and_a_sample_an_image(tmp_path: Path) -> None:
    outputs.write(block(denoised("d/a.jpg"), denoised("d/a.png")), str(tmp_path), TAR)
    [shard] = (tmp_path / "images").glob("s00000-b000003-a02-*.tar")
    listed = subprocess.run(["tar", "-tf", str(shard)], capture_output=True, text=True, check=True).stdout.split()
    # WebDataset's key ends at the first dot: the two would be one sample otherwise
    assert listed == ["sigma25/d/a%2ejpg.png", "sigma25/d/a%2epng.png"]
    again = shard.read_bytes()
    outputs.write(block(denoised("d/a.jpg"), denoised("d/a.png")), str(tmp_path), TAR)
    assert shard.read_bytes() == again


@pytest.mark.parametrize("section", [PNG, TAR])
def test_a_twin_that_fails_on_an_image_takes_none_away(tmp_path: Path, section: ImagesSection) -> None:
    """Of a block that is denoised twice the first rows count, whatever the second one's writer has done."""
    first = outputs.write(block(denoised("a", 0), denoised("b", 1)), str(tmp_path), section)
    twin = outputs.write(block(denoised("a", 0), error_row("b", "read", "timeout")), str(tmp_path), section)
    outputs.discard(twin, first, section)
    for seed, uri in enumerate(first["output_uri"].to_pylist()):
        np.testing.assert_array_equal(pixels(uri), photo(8, 8, seed))
    whole = outputs.write(block(denoised("a", 0), denoised("c", 1)), str(tmp_path), section)
    outputs.discard(whole, first, section)
    kept = {uri.rpartition("#")[0] or uri for uri in first["output_uri"].to_pylist()}
    assert {str(path) for path in (tmp_path / "images").rglob("*.*") if path.is_file()} == kept


@pytest.mark.parametrize("section", [PNG, TAR])
def test_no_file_beside_the_run_is_taken_for_an_output(tmp_path: Path, section: ImagesSection) -> None:
    """Wherever the path of an output is split, only the run's own files are deleted."""
    (tmp_path / "x.tar").write_bytes(b"precious")
    run = tmp_path / "x.tar#1" / "y.parquet#2"
    first = outputs.write(block(denoised("a", 0)), str(run), section)
    twin = outputs.write(block(denoised("a", 0), denoised("b", 1)), str(run), section)
    outputs.discard(twin, first, section)
    kept = {path.name for path in (run / "images").rglob("*.*") if path.is_file()}
    assert len(kept) == 1 and (tmp_path / "x.tar").read_bytes() == b"precious"
    np.testing.assert_array_equal(pixels(first["output_uri"][0].as_py()), photo(8, 8, 0))
    outputs.discard(first, first.slice(0, 0), section)
    assert not [path for path in (run / "images").rglob("*.*") if path.is_file()]
    assert (tmp_path / "x.tar").read_bytes() == b"precious"


@pytest.mark.parametrize("section", [PNG, TAR, None])
def test_rows_without_an_image_pass(tmp_path: Path, section: ImagesSection | None) -> None:
    rows = outputs.write(block(error_row("a", "read", "gone"), row("b")), str(tmp_path), section).to_pylist()
    assert [(each["status"], each["output_uri"]) for each in rows] == [("error", None), ("ok", None)]
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize("pack", [None, "tar"])
def test_an_image_that_cannot_be_encoded_costs_its_row_alone(tmp_path: Path, pack: str | None) -> None:
    section = ImagesSection(format="webp", pack=pack)
    wide = encoded(Picture(np.zeros((1, 16_400, 3), np.uint8)), section, image_id="wide")
    rows = outputs.write(block(wide, denoised("b")), str(tmp_path), section).to_pylist()
    assert [(each["status"], each["stage"]) for each in rows] == [("error", "write"), ("ok", None)]
    assert rows[0]["output_uri"] is None and "cannot encode" in rows[0]["error"]
    np.testing.assert_array_equal(pixels(rows[1]["output_uri"]), photo(8, 8, 0))


def test_notes_say_what_an_image_lacked_and_what_its_file_lacks(tmp_path: Path) -> None:
    picture = Picture(photo(16, 20, 0), metadata=everything())
    webp, note = ImagesSection(format="webp"), "without IPTC (a webp has no place for it)"
    rows = [encoded(picture, webp, image_id=name, notes=notes) for name, notes in NOTES.items()]
    found = outputs.write(block(*rows), str(tmp_path), webp).to_pylist()
    texts = "without text Comment, Title (a webp has no place for it)"
    assert [each["notes"] for each in found] == [f"{texts}; {note}", f"a note; {texts}; {note}"]
    assert outputs.write(block(denoised("d")), str(tmp_path), webp)["notes"].to_pylist() == [None]


def test_what_came_encoded_is_written_as_it_is(tmp_path: Path) -> None:
    rows = outputs.write(block(row("a") | {"encoded": b"a file"}), str(tmp_path), PNG).to_pylist()
    assert Path(rows[0]["output_uri"]).read_bytes() == b"a file"


def test_a_disk_that_refuses_stops_the_job(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file in the folder's place")
    for section in (PNG, TAR):
        with pytest.raises(OSError):
            outputs.write(block(denoised("a")), str(tmp_path), section)
