"""Blocks keep their images, pictures and times through packing."""

import numpy as np
import pytest

from imagewizard.bulk import block as blocks
from imagewizard.bulk.block import Block
from imagewizard.bulk.stage_times import StageTimes
from imagewizard.images.picture import Picture
from imagewizard.runs.results import BlockFile
from tests.support.sample_metadata import everything


def image(image_id: str, **changes: object) -> dict:
    known = {"image_id": image_id, "uri": f"/{image_id}", "settings": [0, 2], "attempts": [1, 3], "bytes": 5}
    read = {"data": None, "stage": None, "error": None, "picture": None}
    return dict.fromkeys(blocks.WORK_SCHEMA.names) | known | read | changes


def test_a_block_comes_out_of_packing_as_it_went_in() -> None:
    images = [image("a", data=b"12"), image("b", stage="read", error="gone"), image("c", member="x", offset=7)]
    packed = Block(BlockFile(3, 14, 2), images, StageTimes({"read": 0.25}, {"read": 0.125})).pack()
    block = Block.unpack(packed)
    assert packed.num_rows == 1 and block.file == BlockFile(3, 14, 2)
    assert (block.times.wall, block.times.cpu) == ({"read": 0.25}, {"read": 0.125})
    assert bytes(block.images[0].pop("data")) == images[0].pop("data")
    assert block.images == images


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_comes_out_of_packing_as_it_went_in(dtype: type, channels: int) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, np.iinfo(dtype).max, (3, 5, channels), dtype)
    alpha = rng.integers(0, np.iinfo(dtype).max, (3, 5), dtype)
    for picture in (Picture(pixels, alpha, everything(), ("a note", "another")), Picture(pixels)):
        packed = Block(BlockFile(0, 0, 1), [image("a"), image("b", picture=picture)]).pack()
        nothing, found = (each["picture"] for each in Block.unpack(packed).images)
        assert nothing is None and found.pixels.dtype == dtype and not found.pixels.flags.owndata
        np.testing.assert_array_equal(found.pixels, pixels)
        assert (found.metadata, found.notes) == (picture.metadata, picture.notes)
        if picture.alpha is None:
            assert found.alpha is None
        else:
            np.testing.assert_array_equal(found.alpha, alpha)
