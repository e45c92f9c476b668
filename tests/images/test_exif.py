"""exif: what cameras write comes back as it was, in either byte order; broken directories cost only themselves."""

import io
import struct
import time

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from imagewizard.images.exif import ASCII, LONG, SHORT, Tag, Tags
from imagewizard.images.orientation import upright
from tests.support.sample_files import camera_exif, encoded, exif_values

PIXEL_SIDES = {0xA002, 0xA003}


def values(exif: bytes) -> dict[str, dict[int, object]]:
    return exif_values(Image.open(io.BytesIO(encoded(Image.new("L", (1, 1)), "PNG", exif=exif))))


@pytest.mark.parametrize("order", ["<", ">"])
def test_all_directories_come_back_as_they_were(order):
    camera = camera_exif(Copyright="somebody")
    camera.endian = order
    stored = camera.tobytes()
    tags = Tags.read(stored)
    assert tags.order == order
    assert tags.exif()[:10] == b"Exif\0\0" + (b"II*\0" if order == "<" else b"MM\0*")
    assert (
        Tags.read(tags.exif()) == tags == Tags.read(stored.removeprefix(b"Exif\0\0")) == Tags.read(b"Exif\0\0" + stored)
    )
    assert values(tags.exif()) == values(stored)
    assert values(stored)["Interop"] == {1: "R98"} and values(stored)["GPSInfo"][2] == (50, 4, 12.5)


def test_values_stay_bytes_and_types_stay_types():
    # Pillow would write "? K??ln", and a RATIONAL for a tag that it does not know
    stored = camera_exif(Copyright="(c) Koelnx").tobytes().replace(b"(c) Koelnx", "© Köln…".encode()[:10])
    tags = Tags.read(stored)
    tags.main[0xC001] = Tag(10, struct.pack(">ii", 1, 2))
    tags.main[0xC002] = Tag(6, b"\xff")
    again = Tags.read(tags.exif())
    assert again.main[ExifTags.Base.Copyright] == Tag(ASCII, "© Köln…".encode()[:10] + b"\0")
    assert again.main[0xC001] == Tag(10, struct.pack(">ii", 1, 2))
    assert again.main[0xC002] == Tag(6, b"\xff")


def test_values_start_at_even_offsets():
    tags = Tags("<", {1: Tag(ASCII, b"12345"), 2: Tag(ASCII, b"67890"), 0x8769: Tag(LONG, {3: Tag(ASCII, b"abcde")})})
    data = tags.exif().removeprefix(b"Exif\0\0")
    assert [data.index(text) % 2 for text in (b"12345", b"67890", b"abcde")] == [0, 0, 0]
    assert Tags.read(data) == tags


def test_what_is_about_the_file_goes_and_the_sides_are_those_of_the_picture():
    stored = camera_exif(
        Orientation=6, ImageWidth=640, XMLPacket=b"tiff:Orientation='6'", Copyright="somebody"
    ).tobytes()
    kept = values(Tags.read(stored).about_the_picture(48, 64).exif())
    before = values(stored)
    assert before["main"].keys() - kept["main"].keys() == {0x0112, 0x0100, 0x02BC}
    assert kept["main"].items() <= before["main"].items()
    assert kept["Exif"].items() - before["Exif"].items() == {(0xA002, 48), (0xA003, 64)}
    assert kept["GPSInfo"] == before["GPSInfo"] and kept["Interop"] == before["Interop"]


def test_sides_are_not_invented():
    camera = camera_exif()
    del camera.get_ifd(ExifTags.IFD.Exif)[0xA003]
    tags = Tags.read(camera.tobytes())
    assert tags.about_the_picture(48, 64) == tags
    camera = Image.Exif()
    camera[ExifTags.Base.Make] = "Maker"
    assert Tags.read(camera.tobytes()).about_the_picture(48, 64) == Tags.read(camera.tobytes())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_subject_is_where_its_pixels_are(orientation):
    stored = np.zeros((5, 7, 1), np.uint8)
    stored[1, 2] = 1  # x 2, y 1
    turned = upright(stored, orientation)
    (y,), (x,), _ = np.nonzero(turned)
    tags = Tags("<")
    for place, sides in ((37396, ()), (37396, (3,)), (37396, (4, 6)), (41492, ())):
        photo = {place: tags.integer_tag(SHORT, 2, 1, *sides)}
        found = Tags("<", {34665: Tag(LONG, photo)}).about_the_picture(*turned.shape[1::-1], orientation)
        expected = tags.integer_tag(SHORT, x, y, *(sides[::-1] if orientation >= 5 else sides))
        assert found.main[34665].value == {place: expected}


def test_a_subject_outside_of_a_turned_picture_is_left_out():
    for value in (struct.pack("<2H", 7, 1), b"\1\0", struct.pack("<5H", 1, 1, 1, 1, 1)):
        tags = Tags("<", {37396: Tag(SHORT, value)})
        assert tags.about_the_picture(5, 7, 6).main == {}
        assert tags.about_the_picture(7, 5).main == tags.main


def test_the_thumbnail_goes():
    exif = camera_exif().tobytes().removeprefix(b"Exif\0\0")
    (count,) = struct.unpack_from(">H", exif, 8)
    thumbnail = Tags(">", {513: Tag(LONG, b"\0\0\0\0")}).directory(len(exif)) + b"THUMB"
    with_one = bytearray(exif + thumbnail)
    with_one[10 + 12 * count : 14 + 12 * count] = struct.pack(">I", len(exif))
    assert Tags.read(bytes(with_one)) == Tags.read(exif)
    assert b"THUMB" not in Tags.read(bytes(with_one)).exif()


def test_integers():
    tags = Tags("<", {1: Tag(SHORT, b"\1\0\2\0"), 2: Tag(LONG, b"\1\0\1\0"), 3: Tag(1, b"\7"), 4: Tag(ASCII, b"x\0")})
    assert [tags.integers(number, (9,)) for number in range(1, 6)] == [(1, 2), (65537,), (7,), (9,), (9,)]
    assert Tags(">").integer_tag(SHORT, 1, 2) == Tag(SHORT, b"\0\1\0\2")
    assert Tags(">").integer_tag(LONG, 3) == Tag(LONG, b"\0\0\0\3")


@pytest.mark.parametrize("order", ["<", ">"])
def test_bigtiff(order):
    stream = io.BytesIO()
    extra = [(315, 2, None, "an artist", True), (65000, 16, 1, 2**40, True)]
    tifffile.imwrite(stream, np.zeros((3, 5), np.uint8), bigtiff=True, byteorder=order, extratags=extra)
    tags = Tags.read(stream.getvalue())
    assert tags.integers(256) == (5,) and tags.integers(257) == (3,) and tags.integers(65000) == (2**40,)
    assert tags.main[315] == Tag(ASCII, b"an artist\0")
    # what has no place in a directory of 32-bit offsets is left out
    again = Tags.read(tags.exif())
    assert again.main[315] == tags.main[315] and 65000 not in again.main


def directory(*entries: tuple[int, int, int, int], size: int = 0) -> bytes:
    """A little-endian structure out of (tag, type, count, value or offset), filled up to `size` bytes."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)).ljust(size, b"x")


def test_tags_that_cannot_be_are_left_out():
    data = directory(
        (271, ASCII, 8, 92),  # the last 8 bytes
        (272, ASCII, 9, 92),  # one more
        (305, ASCII, 8, 2**32 - 4),
        (306, ASCII, 0, 0),
        (315, 99, 1, 0),
        (271, SHORT, 1, 7),  # a second one
        size=100,
    )
    assert Tags.read(data).main == {271: Tag(ASCII, b"xxxxxxxx")}


def test_directories_that_point_in_circles():
    data = directory((0x8769, LONG, 1, 8), (0x8825, LONG, 1, 8), (0xA005, LONG, 1, 8), (271, SHORT, 1, 7))
    main = Tags.read(data).main
    assert main[271] == Tag(SHORT, b"\7\0")
    assert main[0x8769].value[0xA005].value[271] == Tag(SHORT, b"\7\0")
    assert main[0x8769].value[0xA005].value[0x8769] == Tag(LONG, b"\x08\0\0\0")  # goes no deeper


@pytest.mark.parametrize("pointer", [0, 60, 10**6, 2**32 - 1])
def test_a_directory_that_is_not_there_is_left_out(pointer):
    data = directory((271, SHORT, 1, 7), (0x8769, LONG, 1, pointer)) + bytes(30)
    assert Tags.read(data).main.keys() == {271}


def test_no_more_is_read_than_there_is():
    entries = [(1000 + number, ASCII, 10_000, 8) for number in range(900)]
    tags = Tags.read(directory(*entries, size=11_000))
    assert list(tags.main) == [1000]  # the others claim the same bytes


NOTHING = [b"", b"II", b"II*\0", b"Exif\0\0", b"XX*\0\x08\0\0\0", b"II*\0\xff\xff\xff\xff", b"II+\0\x08\0\0\0"]
NOTHING += [b"II+\0\x08\0\0\0" + b"\xff" * 8]  # an offset that is too large for C


@pytest.mark.parametrize("data", NOTHING)
def test_no_directory_at_all(data):
    with pytest.raises(ValueError, match="tags"):
        Tags.read(data)


def test_a_cut_anywhere_raises_value_error_or_gives_fewer_tags():
    whole = camera_exif().tobytes()
    for length in range(len(whole)):
        try:
            assert Tags.read(whole[:length]).main.keys() <= Tags.read(whole).main.keys()
        except ValueError:
            assert length < 20


def test_ten_thousands_of_tags_are_left_out_in_no_time_that_matters():
    tags = Tags("<", {number: Tag(LONG, b"abcd") for number in range(65_535)})
    start = time.perf_counter()
    kept, left_out = tags.within(65_533)
    assert time.perf_counter() - start < 15 and len(kept.main) + len(left_out) == 65_535
