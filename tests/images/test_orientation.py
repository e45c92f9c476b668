"""orientation: the eight ways of EXIF."""

import numpy as np
import pytest

from imagewizard.images.orientation import upright
from tests.support.sample_files import UPRIGHT


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_upright(channels, dtype):
    stored = np.stack([np.array([[1, 2, 3], [4, 5, 6]], dtype) + 10 * channel for channel in range(channels)], 2)
    for number, seen in UPRIGHT.items():
        turned = upright(stored, number)
        assert turned.dtype == dtype and turned.flags.c_contiguous
        assert [(turned[:, :, channel] - 10 * channel).tolist() for channel in range(channels)] == [seen] * channels
    for number in (0, 1, 9):
        assert upright(stored, number) is stored
