"""Bulk jobs with every kind of input, with restored images, and on a disk that fills up."""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from imagewizard.errors import JobError
from imagewizard.images import icc, picture
from imagewizard.images.encoding import encode
from imagewizard.images.metadata import Metadata
from imagewizard.images.picture import Picture
from imagewizard.sources import reading
from tests.support.denoise_jobs import rows, run_job
from tests.support.sample_files import encoded, icc_profile, photo, write_photos
from tests.support.sample_metadata import everything
from tests.support.stand_ins import StandInActor

pytestmark = pytest.mark.usefixtures("ray_cluster")


def write_tar(path: Path, members: list[tuple[str, bytes]], link: tuple[str, str]) -> None:
    with tarfile.open(path, "w:") as shard:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))
        info = tarfile.TarInfo(link[0])
        info.type, info.linkname = tarfile.SYMTYPE, link[1]
        shard.addfile(info)


def test_files_tar_members_and_parquet_rows_are_denoised(tmp_path: Path, tiny: str) -> None:
    data = {seed: encoded(Image.fromarray(photo(20, 28, seed)), "PNG") for seed in range(6)}
    inside = tmp_path / "in"
    (inside / "deep").mkdir(parents=True)
    (inside / "deep" / "a.png").write_bytes(data[0])
    shard = [("x/b.png", data[1]), ("x/b.json", b"{}"), ("x/bad.png", data[2][:80]), ("c.png", data[3])]
    write_tar(inside / "s.tar", shard, link=("x/link.png", "../c.png"))
    os.mkfifo(inside / "fifo.jpg")
    (inside / "self.png").symlink_to("self.png")
    for name in ("._a.png", "a.heic"):
        (inside / name).touch()
    column = pa.array([data[4], None, data[5]], pa.binary())
    pq.write_table(pa.table({"image": column, "label": [1, 2, 3]}), inside / "t.parquet")
    found = run_job(f"input={inside}", f"output={tmp_path}/run", f"model={tiny}", actor=StandInActor)
    assert (found["ok"], found["failed"]) == (6, 2)
    named = {name for each in found["left_out"].values() for name in each["examples"]}
    assert named == {"fifo.jpg", "self.png", "._a.png", "a.heic", "s.tar#x/b.json"} and found["skipped_files"] == 5
    by_id = {row["image_id"]: row for row in rows(tmp_path / "run")}
    ids = {"deep/a.png": 0, "s.tar#x/b.png": 1, "s.tar#c.png": 3, "s.tar#x/link.png": 3, "t.parquet#0": 4}
    ids |= {"t.parquet#2": 5}
    assert by_id.keys() == ids.keys() | {"s.tar#x/bad.png", "t.parquet#1"}
    for image_id, seed in ids.items():
        assert reading.read_origin(by_id[image_id]["uri"]) == data[seed]
        assert (by_id[image_id]["width"], by_id[image_id]["height"]) == (28, 20)
    assert (by_id["s.tar#x/bad.png"]["stage"], by_id["t.parquet#1"]["stage"]) == ("decode", "read")


@pytest.mark.parametrize("pack", ["null", "tar"])
def test_restored_images_keep_metadata_and_bit_depth(tmp_path: Path, tiny: str, pack: str) -> None:
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 65535, (16, 20, 1), np.uint16), photo(16, 20, 0)
    alpha = rng.integers(0, 255, (16, 20), np.uint8)
    pictures = {
        "deep-grey.png": Picture(grey),
        "deep-colour.tiff": Picture(colour.astype(np.uint16) * 257, None, Metadata(icc_profile("RGB "))),
        "rgba.png": Picture(colour, alpha, everything()),
        "grey.jpg": Picture(colour[:, :, :1].copy()),
        "large-profile.tiff": Picture(colour, None, Metadata(icc_profile("RGB ") + bytes(2_000_000), xmp=b"<x/>")),
    }
    (tmp_path / "in").mkdir()
    for name, each in pictures.items():
        (tmp_path / "in" / name).write_bytes(encode(each, name.rpartition(".")[2]).data)
    words = [f"input={tmp_path}/in", f"output={tmp_path}/run", f"model={tiny}", "noise=null", "denoise.sigma=10"]
    run_job(*words, f"images={{format: png, pack: {pack}}}")
    found = {row["image_id"]: row for row in rows(tmp_path / "run")}
    assert found.keys() == pictures.keys()
    for name, before in pictures.items():
        after = picture.decode(reading.read_origin(found[name]["output_uri"]), 10**6, keep=True)
        assert (after.pixels.dtype, after.pixels.shape) == (before.pixels.dtype, before.pixels.shape), name
        if name == "large-profile.tiff":
            assert after.metadata == Metadata(icc.shortened(icc_profile("RGB ")), xmp=b"<x/>")
            assert found[name]["notes"].startswith("ICC profile without what printing needs (")
        else:
            assert after.metadata == before.metadata and found[name]["notes"] is None, name
        assert (after.alpha is None) == (before.alpha is None)
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(reading.read_origin(found["rgba.png"]["output_uri"]))))[:, :, 3], alpha
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 kB in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a disk of its own, which root has")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk_stops_the_job_and_loses_no_committed_row(tmp_path: Path, tiny: str, small_disk: Path) -> None:
    write_photos(tmp_path / "in", 24, 96)
    words = [f"input={tmp_path}/in", f"output={small_disk}/run", f"model={tiny}", "images.format=png"]
    with pytest.raises(JobError, match="No space left on device") as error:
        run_job(*words, "resources.block_rows=2", actor=StandInActor)
    assert "\n" not in str(error.value)
    assert not (small_disk / "run" / "summary.json").exists()
    committed = rows(small_disk / "run")
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    again = run_job(*words, "resources.block_rows=2", actor=StandInActor)
    assert again["ok"] == 24 and again["session"]["rows"] == 24 - len(committed)
    assert [row for row in rows(small_disk / "run") if row in committed] == committed
    assert list((small_disk / "run" / "_tmp").iterdir()) == []
