"""boxes: of every length that a box may have, and files that end too soon."""

import struct

import pytest

from imagewizard.images.boxes import Box, are_cut, boxes

SMALL = struct.pack(">I4s", 11, b"smal") + b"abc"
LARGE = struct.pack(">I4sQ", 1, b"larg", 18) + b"de"
LAST = struct.pack(">I4s", 0, b"last") + b"fgh"


def test_boxes():
    expected = [Box(b"smal", b"abc", True), Box(b"larg", b"de", True), Box(b"last", b"fgh", True)]
    assert list(boxes(SMALL + LARGE + LAST)) == expected
    assert not are_cut(SMALL + LARGE + LAST)


def test_boxes_that_are_cut():
    assert list(boxes(SMALL[:-1])) == [Box(b"smal", b"ab", False)]
    assert are_cut(SMALL + LARGE[:-1]) and are_cut(SMALL[:5]) and are_cut(b"")


@pytest.mark.parametrize("length", [2, 7])
def test_a_length_that_cannot_be_ends_the_boxes(length):
    assert list(boxes(SMALL + struct.pack(">I4s", length, b"evil") + SMALL)) == [Box(b"smal", b"abc", True)]
