"""The normal transform: exact integers, close to the true inverse, and the same table on every machine."""

import hashlib
from statistics import NormalDist

import numpy as np

from imagewizard import seeding
from imagewizard.noise import normal


def test_table_is_the_same_on_every_machine() -> None:
    values, differences = normal.table()
    assert hashlib.sha256(values.astype("<i4").tobytes()).hexdigest() == (
        "5658672c467c6200b44253449d9e15241c271c8421e9a9615aca69a1a4f58f6a"
    )
    assert np.array_equal(np.cumsum(differences[:-1]) + values[0], values[1:])


def test_values_match_the_inverse_distribution() -> None:
    """For all magnitudes of the tail probability and both signs."""
    tails = np.unique(np.geomspace(1, 2**31 - 1, 2000).astype(np.uint32))
    bits = np.concatenate([tails, tails | np.uint32(1 << 31)])
    bits = bits[: len(bits) // 2 * 2]
    found = normal.standard_normal(bits.view("<u8"))
    inverse = NormalDist().inv_cdf
    expected = [(-1 if b < 2**31 else 1) * inverse((2 * (b & 0x7FFFFFFF) + 1) / 2**33) for b in bits.tolist()]
    np.testing.assert_allclose(found, expected, atol=1.5e-5)
    assert found.dtype == np.float32 and np.abs(found).max() < 6.4


def test_moments() -> None:
    values = normal.standard_normal(seeding.words(seeding.key("moments"), 1_000_000)).astype(np.float64)
    moments = [(values**power).mean() for power in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.02)
    assert abs((np.abs(values) < 1).mean() - 0.6827) < 0.002
