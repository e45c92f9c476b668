"""How many pixels lie on an inch, as each format says it."""

import math
import struct
from fractions import Fraction
from typing import NamedTuple, Self

from imagewizard.images.exif import RESOLUTION_UNIT, SHORT, X_RESOLUTION, Y_RESOLUTION, Tags

TAGS = {X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT}
_MOST = 2**32 - 1
_INCH = 2.54
"""In centimetres."""
_UNITS = ("", "inch", "cm")
"""As JFIF counts them; TIFF begins with 1."""


class Resolution(NamedTuple):
    """Pixels for each unit of length, across and down."""

    x: float
    y: float
    unit: str
    """inch; cm; empty: only the ratio of both is known."""

    @classmethod
    def known(cls, x: float, y: float, unit: str) -> Self | None:
        """The resolution; None if this says nothing."""
        if not (math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0) or (not unit and x == y):
            return None
        return cls(x, y, unit)

    @classmethod
    def of_phys(cls, body: bytes) -> Self | None:
        """Of a PNG's pHYs chunk: pixels a metre."""
        if len(body) != 9:
            return None
        x, y, is_metric = struct.unpack(">IIB", body)
        if is_metric != 1:
            return cls.known(x, y, "")
        inches = [round(value * _INCH / 100) for value in (x, y)]
        if [round(value * 100 / _INCH) for value in inches] == [x, y]:  # 11811 are 300 dpi
            return cls.known(inches[0], inches[1], "inch")
        return cls.known(x / 100, y / 100, "cm")

    @classmethod
    def of_jfif(cls, unit: int, density: tuple[int, int]) -> Self | None:
        return cls.known(*density, _UNITS[unit]) if unit < len(_UNITS) else None

    @classmethod
    def of_tags(cls, tags: Tags) -> Self | None:
        """Of a TIFF or EXIF."""
        across = tags.rational(X_RESOLUTION)
        down = tags.rational(Y_RESOLUTION, across)
        unit = tags.integers(RESOLUTION_UNIT, (2,))[0]
        if across is None or down is None or not 1 <= unit <= len(_UNITS):
            return None
        return cls.known(across, down, _UNITS[unit - 1])

    def sharper(self, other: Self | None) -> Self:
        """The other, if it may be what was rounded to this one's integers: 72.5 to 72, 1 % at most."""
        if other is None or not (self.unit and other.unit):
            return self
        same = other if other.unit == self.unit else other._in_other_unit()
        is_near = math.isclose(same.x, self.x, rel_tol=0.01) and math.isclose(same.y, self.y, rel_tol=0.01)
        return other if is_near else self

    def turned(self) -> Self:
        """Of the image turned by a quarter."""
        return self._replace(x=self.y, y=self.x)

    def phys(self) -> bytes | None:
        """A PNG's pHYs; None where its integers cannot hold it."""
        scale = {"": 1.0, "inch": 100 / _INCH, "cm": 100.0}[self.unit]
        x, y = self._whole(scale, 2**31 - 1)
        return struct.pack(">IIB", x, y, bool(self.unit)) if x and y else None

    def jfif(self) -> bytes | None:
        """The unit and both densities of a JPEG's APP0, in the unit that loses least; None where neither fits."""
        known = min((self, self._in_other_unit()), key=lambda each: each._rounding()) if self.unit else self
        x, y = known._whole(1.0, 65535)
        return struct.pack(">BHH", _UNITS.index(known.unit), x, y) if x and y else None

    def rationals(self) -> tuple[Fraction, Fraction] | None:
        """As a TIFF or EXIF says it, beside the unit; None where its integers cannot hold it."""
        x, y = map(_rational, (self.x, self.y))
        return (x, y) if x and y else None

    def _in_other_unit(self) -> Self:
        scale, unit = (1 / _INCH, "cm") if self.unit == "inch" else (_INCH, "inch")
        return self._replace(x=self.x * scale, y=self.y * scale, unit=unit)

    def _rounding(self) -> float:
        """What whole numbers up to 65535 make of it, relative."""
        return max(abs(min(round(value), 65535) - value) / value for value in (self.x, self.y))

    def _whole(self, scale: float, most: int) -> tuple[int, int]:
        """Both as integers; zeros where one of them cannot be."""
        values = (self.x * scale, self.y * scale)
        if not self.unit:
            ratio = Fraction(self.x / self.y).limit_denominator(min(most, 65535))
            values = (ratio.numerator, ratio.denominator)
        x, y = map(round, values)
        return (x, y) if 0 < x <= most and 0 < y <= most else (0, 0)


def _rational(value: float) -> Fraction | None:
    """To 1/1000, where 32 bits hold that; None where they hold nothing near it."""
    if value < 1:
        inverse = _rational(1 / value)
        return inverse and 1 / inverse
    if value > _MOST:
        return None
    return Fraction(value).limit_denominator(min(1000, int(_MOST / value)))


def in_tags(resolution: Resolution | None, tags: Tags) -> Tags:
    """The tags with the three that say the resolution, which TIFF requires; without one they say that none is known."""
    if resolution is not None and resolution == Resolution.of_tags(tags) and tags.main.keys() >= TAGS:
        return tags  # as a camera wrote it
    rationals = None if resolution is None else resolution.rationals()
    x, y = rationals or (Fraction(1), Fraction(1))
    unit = resolution.unit if resolution is not None and rationals else ""
    said = {
        X_RESOLUTION: tags.rational_tag(x),
        Y_RESOLUTION: tags.rational_tag(y),
        RESOLUTION_UNIT: tags.integer_tag(SHORT, 1 + _UNITS.index(unit)),
    }
    return Tags(tags.order, tags.main | said)
