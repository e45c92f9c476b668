"""What a TIFF says of many pages does not go along with one."""

import io

import numpy as np
import pytest
import tifffile
from PIL import ExifTags

from imagewizard.images.encoding import encode
from imagewizard.images.exif import Tags
from imagewizard.images.picture import Picture, decode

NOTE = "without description of a stack (it is not of this image alone, or of how it lay before)"
KINDS = [{"imagej": True}, {"ome": True}, {}]


def read(shape: tuple[int, ...], **options: object) -> Picture:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros(shape, np.uint16), **options)
    return decode(stream.getvalue(), 10_000, True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_big", [False, True])
def test_one_image_of_a_stack_is_read_as_one(kind, is_big):
    options = {"bigtiff": is_big} if kind != {"imagej": True} else {}
    found = read((5, 8, 9), photometric="minisblack", **kind, **options)
    assert found.notes == (NOTE,)
    with tifffile.TiffFile(io.BytesIO(encode(found, "tiff").data)) as file:
        assert file.asarray().shape == (8, 9) and not (file.is_imagej or file.is_ome or file.is_shaped)


def test_images_of_imagej_without_directories():
    description = "ImageJ=1.53\nimages=12\nslices=12\n"
    assert read((8, 9), description=description, metadata=None).notes == (NOTE,)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_of_one_image_stays_until_it_is_turned(kind):
    found = read((8, 9), **kind)
    assert found.notes == () and found.metadata.exif is not None
    assert ExifTags.Base.ImageDescription in Tags.read(found.metadata.exif).main
    assert read((8, 9), extratags=[(274, 3, 1, 6, True)], **kind).notes == (NOTE,)


def test_words_stay():
    found = read((5, 8, 9), description="cells, 5 images=9", metadata=None, photometric="minisblack")
    assert found.notes == () and found.metadata.exif is not None and b"cells" in found.metadata.exif
