"""The constants are the papers'."""

import math

import pytest

from imagewizard.metrics import formula


def test_ssim_of_constants_is_the_formulas() -> None:
    """For windows of one value each the formula of Wang et al. 2004 is short: (2ab + c1) / (a² + b² + c1)."""
    a, b, c1, count = 100.0, 150.0, (0.01 * 255) ** 2, formula.SAMPLES
    scaled = (2 * (count * a) * (count * b) + formula.C1) / ((count * a) ** 2 + (count * b) ** 2 + formula.C1)
    assert scaled == pytest.approx((2 * a * b + c1) / (a**2 + b**2 + c1), rel=1e-12)
    assert formula.C2 == 49 * 48 * (0.03 * 255) ** 2


def test_decibels() -> None:
    assert formula.decibels(0.0, 10) == formula.decibels(1e-9, 10) == 100.0
    assert formula.decibels(10 * 255.0**2, 10) == pytest.approx(0.0, abs=1e-12)
    assert formula.decibels(10 * 25.5**2, 10) == pytest.approx(20.0)
    assert math.isnan(formula.decibels(math.nan, 10))
