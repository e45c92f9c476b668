"""The crops of the benchmark, and how their size is chosen."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagewizard.benchmarks import crops


def test_crops_are_jpegs_of_photographs_all_different(tmp_path: Path) -> None:
    paths = crops.write(tmp_path / "new", 8, 40)
    assert paths == sorted((tmp_path / "new").iterdir()) and len(paths) == 8
    for path in paths:
        with Image.open(path) as crop:
            assert (crop.format, crop.size, crop.mode) == ("JPEG", (40, 40), "RGB")
            assert np.asarray(crop).std() > 0
    assert len({path.read_bytes() for path in paths}) == 8
    again = crops.write(tmp_path / "again", 8, 40)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


@pytest.mark.parametrize("size", [crops.LEAST_SIZE, crops.MOST_SIZE])
def test_every_photograph_has_room_for_the_sizes(size: int, tmp_path: Path) -> None:
    assert len(crops.write(tmp_path / "new", len(crops.PHOTOS), size)) == len(crops.PHOTOS)


def test_the_largest_size_that_fits_is_taken() -> None:
    def rate(side: int) -> float:
        return 20.0 * (256 / side) ** 2

    assert crops.largest(rate, 2000, seconds=100.0) == 256
    assert crops.largest(rate, 2000, seconds=99.0) == 192
    assert crops.largest(rate, 2000, seconds=1.0) == crops.SIZES[-1], "smaller ones would say little"
