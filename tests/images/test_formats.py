"""formats: what is read by its name and written by the config's."""

from typing import get_args

from imagewizard.config.denoise import ImagesSection
from imagewizard.images.formats import INPUT_NAMES, OUTPUT_FORMATS, SUFFIXES, is_image_name


def test_is_image_name():
    names = [
        "a.png",
        "a.JPG",
        "a.Jpeg",
        "a.jpe",
        "a.JFIF",
        "a.webp",
        "a.bmp",
        "a.gif",
        "a.tif",
        "x/a.TIFF",
        "a.txt.png",
    ]
    assert all(is_image_name(name) for name in names)
    assert not any(is_image_name(name) for name in ["a", "png", "a.png.txt", "a.eps", "a.jpgx", "a.png/", ""])


def test_messages_name_the_formats():
    assert INPUT_NAMES == "PNG, JPEG, WebP, BMP, GIF or TIFF"


def test_the_config_offers_what_can_be_written_and_read_again():
    assert get_args(ImagesSection.model_fields["format"].annotation) == tuple(OUTPUT_FORMATS)
    assert {format.suffix for format in OUTPUT_FORMATS.values()} <= set(SUFFIXES)
