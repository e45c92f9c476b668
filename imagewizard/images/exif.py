"""EXIF, and the TIFF directories that it is made of, with their values as the bytes that a camera wrote.

Values are never decoded and encoded again: Pillow's own writer makes question marks of what is not ASCII, the © of a
copyright notice too, and guesses the types of tags that it does not know. What is lost is what lies outside of them:
the thumbnail (it shows the image as it was before), and what a MakerNote points to by its place in the file.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, Self

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value by its type (TIFF 6.0, section 2; 13: TIFF Technical Note 1; 16-18: BigTIFF)."""
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
_BIGTIFF_TYPES = (16, 17, 18)

ORIENTATION, ICC_PROFILE = 274, 34675
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
XMP, IPTC, IMAGE_RESOURCES = 700, 33723, 34377
_ENTRY_BYTES = 12
_EXIF, _GPS, _INTEROP = 34665, 34853, 40965
_PIXEL_WIDTH, _PIXEL_HEIGHT = 40962, 40963
_ACROSS_AND_DOWN = {X_RESOLUTION: Y_RESOLUTION, 41486: 41487}  # the second: of the focal plane
_OF_THE_SUBJECT = {37396, 41492}
"""Its area (a point, a circle, or a rectangle by its centre) and location, in pixels."""
_BELOW: dict[int, dict[int, Any]] = {_EXIF: {_INTEROP: {}}, _GPS: {}}
"""The tags that point to directories, below the main one and below those."""

# What of a main directory is about how its file stores pixels, or another version of them: layout, colour, masks,
# Photoshop's resources and layers, DNG's raw data; XMP and IPTC, which other formats keep elsewhere.
_OF_THE_FILE = {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, ORIENTATION, 277, 278, 279, 280, 281, 284}
_OF_THE_FILE |= {288, 289, 290, 291, 292, 293, 301, 317, 320, 321, 322, 323, 324, 325, 330, 332, 333, 334, 336, 338}
_OF_THE_FILE |= {339, 340, 341, 342, 343, 344, 345, 346, 347, *range(512, 522), 529, 530, 532, 559, XMP, IPTC}
_OF_THE_FILE |= {IMAGE_RESOURCES, ICC_PROFILE, 37724, *range(50706, 50742)}

_OF_THE_PIXELS = {258, 273, 279, 320, 324, 325, 338, 339, 347, 530, 532}
"""Those of them, with several values, without which pixels would be taken for others."""


class Tag(NamedTuple):
    """A tag's type and its value, or the directory that it points to."""

    type: int
    value: "bytes | Directory"


Directory = dict[int, Tag]


@dataclass(frozen=True)
class Tags:
    """The main directory of a TIFF or EXIF structure, and those below it."""

    order: str = "<"
    """The byte order of the values: < or >."""
    main: Directory = field(default_factory=dict)
    is_cut: bool = False
    """Whether the main directory, or what it says of how pixels are stored, goes beyond the end of the file."""
    is_in_part: bool = False
    """Whether tags were left out, since they lie outside of the file."""

    @classmethod
    def read(cls, data: bytes) -> Self:
        """The tags of a TIFF, BigTIFF or EXIF structure (with or without the prefix `Exif\\0\\0`); the first image's.

        A tag that lies outside of `data`, or whose type is unknown, is left out. Raises ValueError for what has no
        directory at all.
        """
        data = re.sub(rb"\A(Exif\0\0){1,2}", b"", data)
        order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
        if order is None:
            raise ValueError("neither II nor MM stands at the start of the tags")
        try:
            reader = _Reader(data, order)
            return cls(order, reader.main(), reader.is_cut, reader.is_in_part)
        except struct.error as error:
            raise ValueError("the tags are cut off") from error

    def integers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The values of a tag of the main directory that holds unsigned integers; `default` where there is none."""
        kind, value = self.main.get(tag, Tag(UNDEFINED, b""))
        code = {BYTE: "B", SHORT: "H", LONG: "I", 16: "Q"}.get(kind)
        if code is None or not isinstance(value, bytes):
            return default
        return struct.unpack(f"{self.order}{len(value) // _SIZES[kind]}{code}", value)

    def rational(self, tag: int, default: float | None = None) -> float | None:
        """The first value of a tag of the main directory that holds unsigned fractions."""
        kind, value = self.main.get(tag, Tag(UNDEFINED, b""))
        if kind != RATIONAL or not isinstance(value, bytes):
            return default
        numerator, denominator = struct.unpack_from(f"{self.order}2I", value)
        return float(numerator / denominator) if denominator else default

    def bytes_of(self, *numbers: int) -> bytes | None:
        """The bytes of the first of these tags that the main directory has."""
        values = [self.main[number].value for number in numbers if number in self.main]
        return values[0] if values and isinstance(values[0], bytes) else None

    def about_the_picture(self, width: int, height: int, orientation: int = 1) -> Self:
        """Without what is about the file, its orientation included; for a picture that is upright, of this size.

        `orientation`: what of 1 to 8 has been applied to its pixels.
        """
        kept = {number: tag for number, tag in self.main.items() if number not in _OF_THE_FILE}
        photo = kept.get(_EXIF, Tag(LONG, {})).value
        if isinstance(photo, dict) and {_PIXEL_WIDTH, _PIXEL_HEIGHT} <= photo.keys():
            sides = {_PIXEL_WIDTH: self.integer_tag(LONG, width), _PIXEL_HEIGHT: self.integer_tag(LONG, height)}
            kept[_EXIF] = Tag(LONG, photo | sides)
        kept = self._turned(kept, width, height, orientation) if orientation > 1 else kept
        return type(self)(self.order, kept)

    def _turned(self, directory: Directory, width: int, height: int, orientation: int) -> Directory:
        places = _ACROSS_AND_DOWN | {down: across for across, down in _ACROSS_AND_DOWN.items()}
        turned: Directory = {}
        for number, (kind, value) in directory.items():
            if isinstance(value, dict):
                tag = Tag(kind, self._turned(value, width, height, orientation))
            elif number not in _OF_THE_SUBJECT:
                tag = Tag(kind, value)
            elif kind != SHORT or not 4 <= len(value) <= 8:
                continue
            else:
                x, y, *sides = struct.unpack(f"{self.order}{len(value) // 2}H", value)
                x, y = _turned_point(x, y, width, height, orientation)
                if not (0 <= x < width and 0 <= y < height):
                    continue
                tag = self.integer_tag(SHORT, x, y, *(sides[::-1] if orientation >= 5 else sides))
            turned[places.get(number, number) if orientation >= 5 else number] = tag
        return turned

    def without(self, *numbers: int) -> Self:
        """Without these tags of the main directory."""
        kept = {number: tag for number, tag in self.main.items() if number not in numbers}
        return type(self)(self.order, kept)

    def within(self, most: int) -> tuple[Self, list[int]]:
        """These tags, and none left out, if `exif` gives at most so many bytes; else without the longest ones."""
        excess, left_out = len(self.exif()) - most, list[int]()
        for number, length in sorted(_lengths(self.main), key=lambda each: -each[1]):
            if excess <= 0:
                break
            left_out.append(number)
            excess -= _ENTRY_BYTES + (length + length % 2 if length > 4 else 0)
        return type(self)(self.order, _removed(self.main, frozenset(left_out))), left_out

    def integer_tag(self, kind: int, *values: int) -> Tag:
        """A tag of SHORT or LONG values, to stand among these."""
        return Tag(kind, struct.pack(f"{self.order}{len(values)}{'H' if kind == SHORT else 'I'}", *values))

    def rational_tag(self, value: Fraction) -> Tag:
        """A tag of one fraction, to stand among these."""
        return Tag(RATIONAL, struct.pack(f"{self.order}2I", value.numerator, value.denominator))

    def header(self, offset: int) -> bytes:
        """The first 8 bytes of a file whose main directory is at `offset`."""
        return (b"II*\0" if self.order == "<" else b"MM\0*") + struct.pack(f"{self.order}I", offset)

    def directory(self, offset: int) -> bytes:
        """The main directory and all below it, as they stand at `offset`, an even number."""
        return _packed(self.order, self.main, offset)

    def exif(self) -> bytes:
        """The EXIF structure, with its prefix."""
        return b"Exif\0\0" + self.header(8) + self.directory(8)


def _turned_point(x: int, y: int, width: int, height: int, orientation: int) -> tuple[int, int]:
    """Where a stored pixel is in the upright picture, which has that size."""
    across, down = (y, x) if orientation >= 5 else (x, y)
    return (
        width - 1 - across if orientation in (2, 3, 6, 7) else across,
        height - 1 - down if orientation in (3, 4, 7, 8) else down,
    )


def _lengths(directory: Directory) -> Iterator[tuple[int, int]]:
    """The tags of a directory and of those below it, with the lengths of their values."""
    for number, (_, value) in directory.items():
        if isinstance(value, dict):
            yield from _lengths(value)
        else:
            yield number, len(value)


def _removed(directory: Directory, numbers: frozenset[int]) -> Directory:
    """Without these tags, here and below."""
    return {
        number: Tag(kind, _removed(value, numbers) if isinstance(value, dict) else value)
        for number, (kind, value) in directory.items()
        if number not in numbers
    }


class _Reader:
    """Reads directories out of one structure, and no more bytes of values than it has.

    Values of sound files do not overlap; without that bound 65,535 tags could each claim the whole file.
    """

    def __init__(self, data: bytes, order: str) -> None:
        self._data, self._order, self._left = data, order, len(data)
        self.is_cut = self.is_in_part = False
        self._big = self._unpack("H", 2) == (43,)
        # layouts of a count of entries, an entry and an offset
        self._count, self._entry, self._offset = ("Q", "HHQ8s", "Q") if self._big else ("H", "HHI4s", "I")

    def main(self) -> Directory:
        (offset,) = self._unpack(self._offset, 8 if self._big else 4)
        return self._directory(offset, _BELOW)

    def _unpack(self, layout: str, offset: int) -> tuple[Any, ...]:
        if offset > len(self._data):  # beyond what unpack_from takes for an offset, it may be
            raise struct.error("offset beyond the end")
        return struct.unpack_from(self._order + layout, self._data, offset)

    def _directory(self, offset: int, below: dict[int, Any]) -> Directory:
        (count,) = self._unpack(self._count, offset)
        size = struct.calcsize(self._order + self._entry)
        offset += struct.calcsize(self._order + self._count)
        found: Directory = {}
        there = min(count, (len(self._data) - offset) // size)
        self.is_cut |= below is _BELOW and there < count
        self.is_in_part |= there < count
        for _ in range(there):
            number, kind, values, inline = self._unpack(self._entry, offset)
            offset += size
            if number not in found and kind in _SIZES and values > 0:
                self._add(found, number, Tag(kind, inline), values * _SIZES[kind], below)
        return found

    def _add(self, found: Directory, number: int, tag: Tag, length: int, below: dict[int, Any]) -> None:
        """Adds the tag whose value, of `length` bytes, is in `tag` itself or where that points to."""
        assert isinstance(tag.value, bytes)
        (place,) = struct.unpack(self._order + self._offset, tag.value)
        if number in below:
            directory: Directory = {}
            with suppress(struct.error):
                directory = self._directory(place, below[number])
            self.is_in_part |= not directory
            if directory:
                found[number] = Tag(LONG, directory)
        elif length <= len(tag.value):
            found[number] = Tag(tag.type, tag.value[:length])
        elif length <= self._left and place + length <= len(self._data):
            self._left -= length
            found[number] = Tag(tag.type, bytes(self._data[place : place + length]))
        else:
            self.is_in_part = True
            self.is_cut |= below is _BELOW and number in _OF_THE_PIXELS


def _packed(order: str, directory: Directory, offset: int) -> bytes:
    """A directory that stands at `offset`, followed by what its tags point to. BigTIFF's own types are left out."""
    tags = {number: tag for number, tag in sorted(directory.items()) if tag.type not in _BIGTIFF_TYPES}
    entries, values = bytearray(), bytearray()
    start = offset + 2 + _ENTRY_BYTES * len(tags) + 4
    for number, (kind, value) in tags.items():
        if isinstance(value, dict):
            entries += struct.pack(f"{order}HHII", number, LONG, 1, start + len(values))
            values += _packed(order, value, start + len(values))
            continue
        entries += struct.pack(f"{order}HHI", number, kind, len(value) // _SIZES[kind])
        if len(value) <= 4:
            entries += value.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", start + len(values))
            values += value
            values += bytes(len(value) % 2)  # values start at even offsets
    return struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + values
