"""A resolution is the same in every format, as near as its integers come to it."""

import struct

import pytest

from imagewizard.images import resolution
from imagewizard.images.exif import LONG, RATIONAL, SHORT, Tag, Tags
from imagewizard.images.resolution import Resolution


def phys(x: int, y: int, unit: int = 1) -> bytes:
    return struct.pack(">IIB", x, y, unit)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (phys(11811, 11811), Resolution(300, 300, "inch")),
        (phys(2835, 5669), Resolution(72, 144, "inch")),
        (phys(10001, 20000), Resolution(100.01, 200, "cm")),
        (phys(1, 2, 0), Resolution(1, 2, "")),
    ],
)
def test_phys(body, found):
    assert Resolution.of_phys(body) == found and found.phys() == body


@pytest.mark.parametrize("body", [b"", phys(1, 1)[:8], phys(0, 5), phys(5, 5, 0)])
def test_phys_that_says_nothing(body):
    assert Resolution.of_phys(body) is None


@pytest.mark.parametrize("found", [(1, (300, 150)), (2, (118, 118)), (0, (4, 3))])
def test_jfif(found):
    known = Resolution.of_jfif(*found)
    assert known is not None and known.jfif() == struct.pack(">BHH", found[0], *found[1])


def test_jfif_that_says_nothing():
    assert [Resolution.of_jfif(unit, (1, 1)) for unit in (0, 3, 255)] == [None] * 3
    assert Resolution.of_jfif(1, (0, 0)) is None


def test_what_integers_cannot_hold():
    assert Resolution(200_000, 200_000, "inch").jfif() is None and Resolution(0.1, 0.1, "cm").jfif() is None
    assert Resolution(0.001, 1, "cm").phys() is None and Resolution(1e9, 1e9, "cm").phys() is None
    assert Resolution(1.5, 1, "").phys() == phys(3, 2, 0)
    assert Resolution(71.6, 72.4, "inch").jfif() == struct.pack(">BHH", 1, 72, 72)
    assert Resolution(59.05, 118.11, "cm").jfif() == struct.pack(">BHH", 1, 150, 300)
    assert Resolution(70_000, 70_000, "inch").jfif() == struct.pack(">BHH", 2, 27559, 27559)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tags(order):
    for known in (Resolution(300, 150, "inch"), Resolution(118.11, 72.5, "cm"), Resolution(4, 3, "")):
        tags = resolution.in_tags(known, Tags(order, {271: Tag(2, b"x\0")}))
        assert Resolution.of_tags(tags) == known
        assert set(tags.main) == {271, 282, 283, 296}
        assert resolution.in_tags(known, tags) is tags
    nothing = resolution.in_tags(None, Tags(order))
    assert set(nothing.main) == {282, 283, 296} and Resolution.of_tags(nothing) is None


def test_tags_that_say_little_or_nothing():
    half = Tags("<", {282: Tag(RATIONAL, struct.pack("<II", 300, 1))})
    assert Resolution.of_tags(half) == Resolution(300, 300, "inch")
    for broken in (
        {282: Tag(RATIONAL, bytes(8))},
        {282: Tag(SHORT, b"\1\0")},
        {283: half.main[282]},
        half.main | {296: Tag(SHORT, b"\7\0")},
        half.main | {296: Tag(LONG, {})},
        half.main | {296: Tag(SHORT, b"\1\0")},
    ):
        found = Resolution.of_tags(Tags("<", broken))
        assert found is None or broken.get(296) == Tag(LONG, {})


def test_turned_and_sharper():
    assert Resolution(1, 2, "cm").turned() == Resolution(2, 1, "cm")
    rounded, exact = Resolution(73, 73, "inch"), Resolution(72.6, 72.6, "inch")
    assert rounded.sharper(exact) == exact
    assert rounded.sharper(Resolution(300, 300, "inch")) == rounded == rounded.sharper(None)
    assert Resolution(59.05, 118.11, "cm").sharper(Resolution(150, 300, "inch")) == Resolution(150, 300, "inch")
    assert Resolution(4, 3, "").sharper(exact) == Resolution(4, 3, "")
