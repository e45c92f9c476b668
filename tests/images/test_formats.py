"""formats: what is read by its name and written by the config's."""

from typing import get_args

from imagewizard.config.denoise import ImagesSection
from imagewizard.images.formats import INPUT_NAMES, OUTPUT_FORMATS, SUFFIXES, is_image_name, why_not_read


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
        "a.avif",
        "a.JXL",
        "a.txt.png",
    ]
    assert all(is_image_name(name) for name in names)
    assert not any(is_image_name(name) for name in ["a", "png", "a.png.txt", "a.eps", "a.jpgx", "a.png/", ""])


def test_messages_name_the_formats():
    assert INPUT_NAMES == "PNG, JPEG, WebP, BMP, GIF, TIFF, AVIF or JXL"


def test_the_config_offers_what_can_be_written_and_read_again():
    assert get_args(ImagesSection.model_fields["format"].annotation) == tuple(OUTPUT_FORMATS)
    assert {format.suffix for format in OUTPUT_FORMATS.values()} <= set(SUFFIXES)


def test_known_images_that_are_not_read_are_named():
    heic, raw = why_not_read("x/a.HEIC"), why_not_read("a.cr2")
    assert heic == "HEIC images are not read; convert them to PNG, TIFF or JPEG" == why_not_read("b.heif")
    assert raw is not None and raw.startswith("camera raw images are not read")
    for suffix in ["cr2", "cr3", "nef", "arw", "dng", "orf", "rw2", "raf"]:
        assert why_not_read(f"a.{suffix}") == raw
    assert why_not_read("a.jp2") != raw
    for name in ("a.txt", "a", "", ".heic", "heic", "a.heic/b", *(f"a{suffix}" for suffix in SUFFIXES)):
        assert why_not_read(name) is None, name
