"""orientation: the eight ways of EXIF."""

import numpy as np
import pytest

from imagewizard.images.orientation import upright

# what is seen of the stored [[1, 2, 3], [4, 5, 6]] (Exif 2.3, tag 0x0112)
SEEN = {
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_upright(channels, dtype):
    stored = np.stack([np.array([[1, 2, 3], [4, 5, 6]], dtype) + 10 * channel for channel in range(channels)], 2)
    for number, seen in SEEN.items():
        turned = upright(stored, number)
        assert turned.dtype == dtype and turned.flags.c_contiguous
        assert [(turned[:, :, channel] - 10 * channel).tolist() for channel in range(channels)] == [seen] * channels
    for number in (0, 1, 9):
        assert upright(stored, number) is stored
