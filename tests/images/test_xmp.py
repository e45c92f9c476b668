"""A packet is changed where it would be wrong about the image that is written, and nowhere else."""

import time

import pytest

from imagewizard.images import xmp
from tests.support.sample_metadata import xmp_packet

ELEMENTS = """<rdf:Description xmlns:t="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/">
 <t:Orientation>6</t:Orientation><t:ImageWidth>640</t:ImageWidth><exif:PixelXDimension>640</exif:PixelXDimension>
 <exif:PixelYDimension>480</exif:PixelYDimension><x:Orientation>6</x:Orientation></rdf:Description>"""


def test_attributes():
    found = xmp.upright(xmp_packet(Orientation=6, ImageWidth=640, ImageLength=480, Make="Ä 6"), 48, 64)
    assert found == xmp_packet(Orientation=1, ImageWidth=48, ImageLength=64, Make="Ä 6")
    assert xmp.upright(b"<x tiff:Orientation = '8' x:Orientation='8'/>", 1, 1) == (
        b"<x tiff:Orientation = '1' x:Orientation='8'/>"
    )


def test_broken_packets_ask_for_no_turn_either():
    for broken in (
        b"<x-tiff:Orientation='8'",
        b"<x tiff:Orientation='8",
        b"<tiff:Orientation>8",
        b"<x tiff:Orientation=8>",
    ):
        assert xmp.upright(broken, 1, 1) in (broken.replace(b"8", b"1"), b"<x tiff:Orientation=8>")


def test_elements_and_other_prefixes():
    found = xmp.upright(ELEMENTS.encode(), 48, 64)
    expected = ELEMENTS.replace("<t:Orientation>6", "<t:Orientation>1").replace("640", "48").replace("480", "64")
    assert found == expected.encode()


def test_what_it_does_not_say_is_not_made_up():
    for packet in (xmp_packet(Make="x"), b"<x/>", b"<x tiff:Orientation/>"):
        assert xmp.upright(packet, 48, 64) == packet


def test_thumbnails_and_the_pointer_to_more_are_taken_out():
    packet = (
        b'<a xmpNote:HasExtendedXMP="0123" b="c"><xmp:Thumbnails><rdf:Alt>AAAA\nBBBB</rdf:Alt></xmp:Thumbnails></a>'
    )
    assert xmp.upright(packet, 1, 1) == b'<a b="c"></a>'
    packet = b"<a> <xmp:Thumbnails/><xmp:Thumbnails ><xmp:Thumbnails/></xmp:Thumbnails ><b/><xmp:Thumbnails></a>"
    assert xmp.upright(packet, 1, 1) == b"<a> <b/><xmp:Thumbnails></a>"
    packet = b"<a><xmpNote:HasExtendedXMP>0123</xmpNote:HasExtendedXMP><xmp:Rating>5</xmp:Rating></a>"
    assert xmp.upright(packet, 1, 1) == b"<a><xmp:Rating>5</xmp:Rating></a>"


def test_what_was_across_is_down_after_a_quarter_turn():
    packet = b'<a xmlns:t="http://ns.adobe.com/tiff/1.0/" t:XResolution="300/1" exif:FocalPlaneYResolution="5/1">'
    packet += b"<t:YResolution>72/1</t:YResolution></a>"
    turned = packet.replace(b"X", b"?").replace(b"Y", b"X").replace(b"?", b"Y")
    assert xmp.upright(packet, 1, 1, 6) == turned
    assert xmp.upright(packet, 1, 1, 3) == packet


def test_places_in_an_image_that_was_turned_are_taken_out():
    packet = b"<a><exif:SubjectArea><rdf:Seq><rdf:li>5</rdf:li></rdf:Seq></exif:SubjectArea><mwg-rs:Regions><b/>"
    packet += b"</mwg-rs:Regions></a>"
    assert xmp.upright(packet, 1, 1) == packet
    assert xmp.upright(packet, 1, 1, 2) == b"<a></a>"


def test_other_encodings():
    assert xmp.upright(b"<x a='\xe4\xff' tiff:Orientation='3'/>\0\0", 1, 1) == b"<x a='\xe4\xff' tiff:Orientation='1'/>"
    found = xmp.upright("<x a='ä' tiff:Orientation='3'/>".encode("utf-16"), 1, 1)
    assert found is not None and found.decode("utf-16") == "<x a='ä' tiff:Orientation='1'/>"


@pytest.mark.parametrize("packet", [b"", b"\0\0", b"garbage", b"<\0x", b"\xff" * 9 + b"\0" + b"x"])
def test_no_packet_at_all(packet):
    assert xmp.upright(packet, 1, 1) is None


def test_orientation():
    assert xmp.orientation(xmp_packet(Orientation=6)) == 6
    assert xmp.orientation(ELEMENTS.encode()) == 6
    assert [xmp.orientation(packet) for packet in (b"", b"<x/>", xmp_packet(Orientation=9))] == [1, 1, 1]


@pytest.mark.parametrize(
    "part",
    [
        b"<xmp:Thumbnails>",
        b"<xmp:Thumbnails ",
        b" ",
        b"tiff:Orientation ",
        b"<tiff:Orientation = ",
        b"xmlns:",
        b"<tiff:ImageWidth ",
    ],
)
def test_a_packet_of_one_thing_over_and_over_takes_no_time_that_matters(part):
    packet = b"<Thumbnails" + part * (300_000 // len(part))
    start = time.perf_counter()
    assert xmp.upright(packet, 1, 1) == packet and xmp.orientation(packet) == 1
    assert time.perf_counter() - start < 15  # quadratic searches take minutes


def test_prefixes_are_looked_for_up_to_a_number():
    declared = b"".join(b" xmlns:p%d='http://ns.adobe.com/tiff/1.0/'" % number for number in range(10))
    assert xmp.orientation(b"<x" + declared + b" p6:Orientation='8'/>") == 8
    assert xmp.orientation(b"<x" + declared + b" p7:Orientation='8'/>") == 1
