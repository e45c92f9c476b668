"""Blocks keep their images and their seconds through packing."""

import numpy as np
import pyarrow as pa
import pytest

from imagewizard.bulk import block as blocks
from imagewizard.bulk.block import Block
from imagewizard.bulk.stage_times import StageTimes
from imagewizard.images.picture import Picture
from imagewizard.runs.results import BlockFile
from tests.support.sample_metadata import everything


def test_a_block_comes_out_of_packing_as_it_went_in() -> None:
    table = pa.table({"a": ["x", None], "data": pa.array([b"12", None], pa.large_binary())})
    packed = Block(BlockFile(3, 14, 2), table, StageTimes({"read": 0.25}, {"read": 0.125})).pack()
    assert packed.num_rows == 1 and packed.schema == blocks.BLOCK_SCHEMA
    block = Block.unpack(packed)
    assert block.file == BlockFile(3, 14, 2)
    assert (block.times.wall, block.times.cpu) == ({"read": 0.25}, {"read": 0.125})
    assert block.images.equals(table)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_comes_out_of_a_row_as_it_went_in(dtype: type, channels: int) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, np.iinfo(dtype).max, (3, 5, channels), dtype)
    alpha = rng.integers(0, np.iinfo(dtype).max, (3, 5), dtype)
    for picture in (Picture(pixels, alpha, everything(), ("a note", "another")), Picture(pixels)):
        rows = [{}, blocks.picture_columns(picture)]
        schema = pa.schema(blocks.PICTURE_FIELDS)
        table = pa.Table.from_pylist(rows, schema=schema)
        assert blocks.picture_at(table, 0) is None
        found = blocks.picture_at(table, 1)
        assert found is not None and found.pixels.dtype == dtype
        np.testing.assert_array_equal(found.pixels, pixels)
        assert (found.metadata, found.notes) == (picture.metadata, picture.notes)
        if picture.alpha is None:
            assert found.alpha is None
        else:
            np.testing.assert_array_equal(found.alpha, alpha)
