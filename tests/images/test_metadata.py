"""What a file says is set upright with its pixels, and what is damaged costs itself."""

from dataclasses import replace

import pytest

from imagewizard.images import icc
from imagewizard.images.exif import Tags
from imagewizard.images.metadata import Metadata, named
from imagewizard.images.resolution import Resolution
from tests.support.sample_files import camera_exif, icc_profile
from tests.support.sample_metadata import everything, xmp_packet


def test_what_is_upright_stays_as_it_is():
    assert everything().upright(20, 16, orientation=1, is_grey=False) == (everything(), [])
    assert Metadata().upright(20, 16, orientation=1, is_grey=False) == (Metadata(), [])


def test_a_turn_is_said_nowhere_a_second_time():
    exif = camera_exif(Orientation=6, XResolution=300.0, YResolution=150.0, ResolutionUnit=2).tobytes()
    stored = replace(everything(), exif=exif, xmp=xmp_packet(Orientation=6), resolution=Resolution(300, 150, "inch"))
    kept, notes = stored.upright(16, 20, orientation=6, is_grey=False)
    assert notes == [] and kept.exif is not None
    tags = Tags.read(kept.exif)
    assert 274 not in tags.main and (tags.rational(282), tags.rational(283)) == (150, 300)
    assert kept.xmp == xmp_packet(Orientation=1)
    assert kept.resolution == Resolution(150, 300, "inch")


def test_the_resolution_is_that_of_exif_where_the_format_has_none_or_a_rounded_one():
    exif = camera_exif().tobytes()  # 72.5
    for stored, expected in ((None, 72.5), (Resolution(72, 72, "inch"), 72.5), (Resolution(300, 300, "inch"), 300)):
        kept, _ = Metadata(exif=exif, resolution=stored).upright(9, 9, orientation=1, is_grey=False)
        assert kept.resolution == Resolution(expected, expected, "inch")
    nothing = camera_exif(XResolution=1, YResolution=1, ResolutionUnit=1).tobytes()
    kept, _ = Metadata(exif=nothing).upright(9, 9, orientation=1, is_grey=False)
    assert kept.resolution is None and kept.exif is not None and not Tags.read(kept.exif).main.keys() & {282, 283, 296}


SPACES = [
    ("RGB ", False, None),
    ("GRAY", True, None),
    ("GRAY", False, "without ICC profile (it is of GRAY, the pixels are RGB)"),
    ("CMYK", False, "without ICC profile (it is of CMYK, the pixels are RGB)"),
    ("Lab ", True, "without ICC profile (it is of Lab, the pixels are grey)"),
]


@pytest.mark.parametrize(("space", "is_grey", "note"), SPACES)
def test_a_profile_of_another_space_is_left_out_with_a_note(space, is_grey, note):
    stored = Metadata(icc=icc_profile(space))
    kept, notes = stored.upright(9, 9, orientation=1, is_grey=is_grey)
    assert notes == ([note] if note else [])
    assert kept == (Metadata() if note else stored)


def test_a_grey_picture_under_an_rgb_profile_gets_its_curve():
    kept, notes = Metadata(icc=icc.of_rgb((1.8,), icc.SRGB)).upright(9, 9, orientation=1, is_grey=True)
    assert kept.icc == icc.of_grey((1.8,)) and notes == []


def test_damage_costs_itself():
    stored = replace(everything(), icc=b"RGB " * 50, xmp=b"garbage", exif=b"Exif\0\0garbage")
    kept, notes = stored.upright(20, 16, orientation=1, is_grey=False)
    assert kept == replace(everything(), icc=None, xmp=None, exif=None)
    assert notes == [f"without {what} (it is damaged)" for what in ("EXIF", "XMP", "ICC profile")]


@pytest.mark.parametrize("pointer", [20_000, 2**32 - 1])
def test_a_damaged_part_of_exif_is_left_out_with_a_note(pointer):
    whole = Tags.read(camera_exif().tobytes()).exif()
    at = whole.index(b"\x88\x25" if whole[6:8] == b"MM" else b"\x25\x88") + 8
    order = "big" if whole[6:8] == b"MM" else "little"
    kept, notes = Metadata(exif=whole[:at] + pointer.to_bytes(4, order) + whole[at + 4 :]).upright(9, 9, 1, False)
    assert notes == ["without a part of EXIF (it is damaged)"]
    assert kept.exif is not None and b"maker note" in kept.exif and 34853 not in Tags.read(kept.exif).main


def test_names_in_notes_are_few_and_printable():
    assert named(["a", "b", "a"]) == "a, b"
    assert named(str(number) for number in range(20_000)) == "0, 1, 2, 3, 4 and 19995 more"
    assert named(["a; b", "\x1b[2J\nc\u202e"]) == "a? b, ?[2J c?"
    kept, notes = Metadata(icc=icc_profile("RGB ").replace(b"RGB ", b"\n\x1b;a", 1)).upright(9, 9, 1, False)
    assert kept.icc is None and notes == ["without ICC profile (it is of ??a, the pixels are RGB)"]
