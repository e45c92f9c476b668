"""Metadata for tests, of every kind at once."""

import struct
from functools import cache
from itertools import product

import numpy as np

from imagewizard.images.exif import Tags
from imagewizard.images.metadata import Metadata
from imagewizard.images.png_chunks import Chunk
from imagewizard.images.resolution import Resolution
from tests.support.sample_files import camera_exif, icc_profile

IPTC = b"\x1c\x02\x05\x00\x05title" + b"\x1c\x02\x50\x00\x03me\0"
GAMMA = Chunk(b"gAMA", struct.pack(">I", 100_000))
P3 = Chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))


def xmp_packet(**properties: object) -> bytes:
    """An XMP packet with properties of TIFF's namespace as attributes."""
    attributes = " ".join(f'tiff:{name}="{value}"' for name, value in properties.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" {attributes}/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


@cache
def cmyk_profile() -> bytes:
    """Of inks on grey paper that darken by other amounts than the formula without a profile has it."""
    corners = []
    for inks in product((0, 1), repeat=4):
        lightness = 0.95 * np.prod([1 - share * ink for share, ink in zip((0.5, 0.6, 0.1, 0.9), inks, strict=True)])
        a = 128 + 70 * inks[1] - 35 * inks[0]
        b = 128 + 80 * inks[2] - 45 * inks[0]
        corners += [round(255 * lightness), a, b]
    ramps = bytes(range(256))
    fixed = [65536 if row == column else 0 for row in range(3) for column in range(3)]
    lut = b"mft1" + struct.pack(">4x4B9i", 4, 3, 2, 0, *fixed) + ramps * 4 + bytes(corners) + ramps * 3
    return _lut_profile(b"CMYK", lut)


def _lut_profile(space: bytes, lut: bytes) -> bytes:
    """A printer's profile of one table, with Lab behind it (ICC.1:2001-04, 6.1 to 6.5)."""
    head = struct.pack(">I4xI4s4s4s", 0, 0x02400000, b"prtr", space, b"Lab ")
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"inks\0" + bytes(78)
    values = {b"desc": text, b"cprt": b"text\0\0\0\0CC0\0", b"A2B0": lut}
    values[b"wtpt"] = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    table, body = struct.pack(">I", len(values)), b""
    for name, value in values.items():
        table += struct.pack(">4sII", name, 128 + 4 + 12 * len(values) + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    whole = head.ljust(128, b"\0") + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def everything(width: int = 20, height: int = 16) -> Metadata:
    """What an RGB picture of that size may have beside it, as it is after reading."""
    exif = Tags.read(camera_exif(Copyright="somebody").tobytes()).about_the_picture(width, height)
    return Metadata(
        icc=icc_profile("RGB "),
        exif=exif.exif(),
        xmp=xmp_packet(Make="a maker", Orientation=1),
        iptc=IPTC,
        resolution=Resolution(72.5, 72.5, "inch"),
        colour=(GAMMA, P3),
        texts=(Chunk(b"tEXt", b"Comment\0a word"), Chunk(b"iTXt", b"Title\0\0\0de\0Titel\0\xc3\xa4")),
    )
