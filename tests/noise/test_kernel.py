"""The compiled draws equal numpy's, bit for bit."""

import numpy as np
import pytest

from imagewizard import seeding
from imagewizard.noise import kernel, normal

KEYS = [seeding.key(1, "a"), 0, 1, 2**64 - 1, 2**64, 2**127 + 5, 2**128 - 1]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 8191, 8192, 8193, 100_000])
def test_values_equal_numpys(key: int, count: int) -> None:
    """Counts around a block of eight and around the blocks that are drawn at a time."""
    found = kernel.standard_normal(key, count)
    words = seeding.words(key, -(-count // 2))
    assert found.dtype == np.float32 and found.shape == (count,)
    assert found.tobytes() == normal.standard_normal(words)[:count].tobytes()


def test_the_ends_of_the_table() -> None:
    """The likeliest and the rarest tails, of both signs, which no short stream holds."""
    bits = np.array([0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1, 0x7FFFFF00], np.uint32)
    tails, values = np.empty(len(bits), np.float32), np.empty(len(bits), np.float32)
    kernel._find_tails(bits, tails)
    kernel._look_up(bits, tails.view(np.uint32), *normal.table(), values)
    assert values.tobytes() == normal.standard_normal(bits.view("<u8")).tobytes()
