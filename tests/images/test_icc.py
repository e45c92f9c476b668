"""Small profiles mean what LittleCMS takes them to mean, and the same for grey and RGB."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from imagewizard.images import icc
from tests.support.sample_files import icc_profile, photo
from tests.support.sample_metadata import cmyk_profile

PHOTO = photo(24, 32, 0)
GREY = Image.fromarray(PHOTO[:, :, 0])
P3 = icc.Chromaticities((0.3127, 0.3290), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060))


def in_srgb(image: Image.Image, profile: bytes) -> np.ndarray:
    target = ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(image, io.BytesIO(profile), target, outputMode="RGB")).astype(int)


def as_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def test_srgb_is_srgb():
    np.testing.assert_allclose(in_srgb(Image.fromarray(PHOTO), icc.of_rgb(icc.SRGB_CURVE, icc.SRGB)), PHOTO, atol=1)
    grey = in_srgb(GREY, icc.of_grey(icc.SRGB_CURVE))
    np.testing.assert_allclose(grey, np.asarray(as_rgb(GREY)), atol=1)


def test_the_colorants_of_display_p3():
    profile = icc.of_rgb((2.2,), P3)
    found = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    colorants = [found.red_colorant[0], found.green_colorant[0], found.blue_colorant[0]]
    known = [[0.51512, 0.24120, -0.00105], [0.29198, 0.69225, 0.04189], [0.15710, 0.06657, 0.78407]]  # Apple's profile
    np.testing.assert_allclose(colorants, known, atol=2e-4)
    assert int.from_bytes(profile[:4], "big") == len(profile) and profile == icc.of_rgb((2.2,), P3)


@pytest.mark.parametrize("exponent", [1.0, 1.8, 2.2])
def test_an_exponent(exponent):
    light = (PHOTO / 255) ** exponent
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    np.testing.assert_allclose(in_srgb(Image.fromarray(PHOTO), icc.of_rgb((exponent,), icc.SRGB)), expected, atol=1.01)
    found = in_srgb(GREY, icc.of_grey((exponent,)))
    np.testing.assert_allclose(found[:, :, 0], expected[:, :, 0], atol=1.01)


def test_grey_and_rgb_look_alike():
    for curve in ((1.0,), (2.2,), icc.SRGB_CURVE):
        rgb = icc.of_rgb(curve, P3)
        grey = icc.as_grey(rgb)
        assert grey is not None and icc.space(grey) == icc.GREY
        np.testing.assert_allclose(in_srgb(GREY, grey), in_srgb(as_rgb(GREY), rgb), atol=1)
        again = icc.as_rgb(grey)
        assert again is not None and icc.space(again) == icc.RGB
        np.testing.assert_allclose(in_srgb(as_rgb(GREY), again), in_srgb(GREY, grey), atol=1)


def test_a_profile_that_is_more_than_a_curve_does_not_change_its_space():
    rgb = icc.of_rgb((1.8,), icc.SRGB)
    assert icc.as_grey(rgb.replace(b"rTRC", b"xTRC")) is None
    assert icc.as_grey(rgb.replace(b"wtpt", b"A2B0")) is None
    assert icc.as_grey(cmyk_profile()) is None
    assert icc.as_rgb(icc.of_grey((1.8,)).replace(b"XYZ ", b"Lab ", 1)) is None
    assert icc.as_rgb(icc_profile("GRAY")) is None
    for cut in range(0, len(rgb), 7):
        icc.as_grey(rgb[:cut]), icc.as_rgb(rgb[:cut]), icc.shortened(rgb[:cut])


WHITE, RED, GREEN, BLUE = icc.SRGB


@pytest.mark.parametrize(
    "colours",
    [
        (WHITE, RED, GREEN, (0.15, 0.0)),
        ((0.0, 0.0), RED, GREEN, BLUE),
        (WHITE, RED, RED, BLUE),
        (WHITE, RED, GREEN, (0.470, 0.465)),  # on the line between the two
        ((0.9, 0.01), RED, GREEN, BLUE),
    ],
)
def test_colours_that_cannot_be(colours):
    with pytest.raises(ValueError, match=r"zero|line|close|white"):
        icc.of_rgb((2.2,), icc.Chromaticities(*colours))


def test_a_shorter_profile_means_the_same():
    for profile, mode in ((icc_profile("RGB "), "RGB"), (cmyk_profile(), "CMYK")):
        long = profile.replace(b"cprt", b"priv") + bytes(2_000_000)
        short = icc.shortened(long)
        assert len(short) < len(profile)
        image = Image.fromarray(PHOTO).convert(mode)
        np.testing.assert_array_equal(in_srgb(image, short), in_srgb(image, profile))


def test_what_is_no_profile():
    assert icc.is_sound(icc_profile("RGB ")) and icc.is_sound(icc.of_grey((1.0,))) and icc.is_sound(cmyk_profile())
    assert not any(map(icc.is_sound, (b"", b"RGB " * 40, icc_profile("RGB ")[:100], bytes(500))))


def test_tags_take_no_more_than_their_profile_has():
    names = (b"desc", b"cprt", b"wtpt", b"chad", b"A2B0", b"A2B1", b"A2B2", b"rXYZ", b"rTRC", b"gTRC", b"bTRC", b"priv")
    size = 100_000
    table = b"".join(struct.pack(">4sII", name, 4 * index, size - 4 * index) for index, name in enumerate(names))
    profile = (bytes(128) + struct.pack(">I", len(names)) + table).ljust(size, b"x")
    assert list(icc._tags(profile)) == [b"desc"] and len(icc.shortened(profile)) <= size + 200
    shared = b"".join(struct.pack(">4sII", name, 0, size) for name in names)
    found = icc._tags(profile.replace(table, shared))
    assert found.keys() == {*names} - {b"priv"} and len({id(value) for value in found.values()}) == 1
