"""IPTC records come out of what Photoshop, ImageMagick and TIFF wrap them in, and go into a JPEG's segment."""

import struct

from imagewizard.images import iptc
from tests.support.sample_metadata import IPTC


def resource(number: int, data: bytes, name: bytes = b"") -> bytes:
    named = bytes([len(name)]) + name
    named += bytes(len(named) % 2)
    return b"8BIM" + struct.pack(">H", number) + named + struct.pack(">I", len(data)) + data + bytes(len(data) % 2)


def test_records_among_other_resources():
    others = resource(0x03ED, b"odd", b"a name") + resource(0x040C, b"thumbnail", b"odd")
    for data in (resource(0x0404, IPTC), others + resource(0x0404, IPTC) + others, b"Photoshop 3.0\0" + others):
        expected = IPTC if b"title" in data else None
        assert iptc.from_resources(data) == expected
        assert iptc.from_text(data) == expected
    assert iptc.from_text(IPTC) == IPTC
    assert iptc.from_resources(resource(0x0404, b"")) is None


def test_segments():
    assert iptc.from_segments([iptc.segment(IPTC)]) == IPTC
    whole = iptc.segment(b"\x1c" + bytes(100_001))
    head = b"Photoshop 3.0\0"
    assert iptc.from_segments([whole[:60_000], head + whole[60_000:], b"other"]) == b"\x1c" + bytes(100_001)
    assert iptc.from_segments([]) is None and iptc.from_segments([b"Photoshop 2.5\0" + IPTC]) is None


def test_cut_and_garbage():
    whole = resource(0x03ED, b"odd", b"a name") + resource(0x0404, IPTC)
    for length in range(len(whole)):
        found = iptc.from_resources(whole[:length])
        assert found is None or IPTC.startswith(found)
    assert iptc.from_resources(b"garbage that is long enough") is None


def test_padding_to_32_bits():
    long = b"\x1c\x02\x78\x80\x04" + struct.pack(">I", 3) + b"a\0\0"  # a length of four bytes
    for records in (IPTC, long, IPTC + long):
        for padding in range(4):
            assert iptc.without_padding(records + bytes(padding)) == records
    assert iptc.without_padding(IPTC + b"\0x") == IPTC + b"\0x"
    assert iptc.without_padding(b"garbage\0") == b"garbage\0"
