"""Draws with numba and without it."""

import subprocess
import sys

import numpy as np

from imagewizard import seeding
from imagewizard.noise import draws, normal

PROGRAM = """
import hashlib, sys
from imagewizard.noise import draws
assert "numba" not in sys.modules
if "without" in sys.argv:
    sys.modules["numba"] = None
print(hashlib.sha256(draws.standard_normal(2**100 + 5, 1001).tobytes()).hexdigest(), draws._version().__module__)
"""


def test_they_are_the_keys_first_values() -> None:
    expected = normal.standard_normal(seeding.words(7, 6))
    assert np.array_equal(draws.standard_normal(7, 11), expected[:11])


def test_without_numba_the_bits_are_the_same() -> None:
    runs = [[sys.executable, "-c", PROGRAM, *argument] for argument in ([], ["without"])]
    outputs = [subprocess.run(run, check=True, capture_output=True, text=True).stdout.split() for run in runs]
    (with_numba, compiled), (without, numpys) = outputs
    assert with_numba == without
    assert (compiled, numpys) == ("imagewizard.noise.kernel", "imagewizard.noise.draws")
