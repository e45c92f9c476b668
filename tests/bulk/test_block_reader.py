"""Blocks are read and decoded as far as they may be; one bad image costs its row."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagewizard.bulk import block as blocks
from imagewizard.bulk import block_reader
from imagewizard.bulk.block import Block
from imagewizard.bulk.block_reader import BlockReader
from imagewizard.manifest import listing
from imagewizard.manifest.tally import Tally
from imagewizard.runs.results import BlockFile
from imagewizard.sources import tar
from tests.support.sample_files import photo, write_photos


def block(*images: dict) -> Block:
    empty = dict.fromkeys(blocks.WORK_SCHEMA.names)
    return Block(BlockFile(0, 0, 1), [empty | image | {"settings": [0], "attempts": [1]} for image in images])


def files(folder: Path, count: int) -> Block:
    return block(*({"image_id": name, "uri": f"{folder}/{name}"} for name in write_photos(folder, count, 16)))


@pytest.mark.parametrize("quick", [0.0, 60.0])
def test_each_image_is_read_and_decoded_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: float
) -> None:
    """From a slow disk, by threads, and from a quick one."""
    monkeypatch.setattr(block_reader, "READ_THREADS", 3)
    monkeypatch.setattr(block_reader, "QUICK_SECONDS", quick)
    found = BlockReader(10**6, keep=False)(files(tmp_path, 7))
    for index, image in enumerate(found.images):
        np.testing.assert_array_equal(image["picture"].pixels, photo(16, 16, index))
        assert image["data"] is image["stage"] is image["error"] is None
    assert all(times[stage] > 0 for times in (found.times.wall, found.times.cpu) for stage in ("read", "decode"))


def test_a_bad_image_costs_its_row(tmp_path: Path) -> None:
    work = files(tmp_path, 3)
    (tmp_path / work.images[0]["image_id"]).unlink()
    (tmp_path / work.images[1]["image_id"]).write_bytes(b"no image")
    found = BlockReader(10**6, keep=False)(work).images
    assert [image["stage"] for image in found] == ["read", "decode", None]
    assert found[0]["error"].startswith("no such file") and found[2]["error"] is None
    assert [image["picture"] is None for image in found] == [True, True, False]
    assert [image["data"] for image in found] == [None] * 3


def test_what_is_beyond_the_limit_stays_encoded(tmp_path: Path) -> None:
    found = BlockReader(10**6, keep=False, pixel_bytes=16 * 16 * 3)(files(tmp_path, 4)).images
    assert [image["picture"] is None for image in found] == [False, False, True, True]
    assert [image["data"] is None for image in found] == [True, True, False, False]


def test_a_large_image_stays_encoded_and_one_beyond_the_jobs_limit_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "LARGE_PIXELS", 200)
    Image.new("RGB", (40, 40)).save(tmp_path / "huge.png")
    work = block(*files(tmp_path, 1).images, {"image_id": "huge", "uri": f"{tmp_path}/huge.png"})
    found = BlockReader(1000, keep=False)(work).images
    assert [image["data"] is None for image in found] == [False, True]
    assert found[1]["error"].startswith("too many pixels: 40x40")


def test_a_packed_file_is_read_by_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path / "in", 4, 16)
    members = [(path.name, path.read_bytes()) for path in sorted((tmp_path / "in").iterdir())]
    (tmp_path / "shard.tar").write_bytes(tar.pack(members))
    listed = [image for table in listing.batches(f"{tmp_path}/shard.tar", Tally()) for image in table.to_pylist()]
    read, uses = tar.read, list[int]()
    monkeypatch.setattr(tar, "read", lambda uri, ranges: (uses.append(len(ranges)), read(uri, ranges))[1])
    found = BlockReader(10**6, keep=False)(block(*listed)).images
    assert uses == [4] and all(image["picture"] for image in found)
