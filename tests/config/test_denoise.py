"""The config of a bulk job: valid combinations, and values derived from them."""

import pytest

from imagewizard.config.denoise import DenoiseConfig
from imagewizard.config.loading import load
from imagewizard.errors import UserError


def config(*words: str) -> DenoiseConfig:
    return load(DenoiseConfig, None, ["input=in", "output=out", *words])


@pytest.mark.parametrize("word", ["images.format=bmp", "images.format=PNG", "images.quality=0", "images.quality=101"])
def test_impossible_image_settings_are_refused(word: str) -> None:
    with pytest.raises(UserError, match=r"^images\.(format|quality): must be"):
        config(word)


def test_an_image_has_a_row_for_each_setting_of_the_noise() -> None:
    assert config("noise.sigma=[15,50]").rows_per_image == 2
    assert config("noise.kind=poisson-gaussian", "noise.a=[1,2,3]", "noise.b=[1,2]").rows_per_image == 6
    assert config("noise=null").rows_per_image == config("noise=null", "denoise.sigma=12").rows_per_image == 1


def test_a_restoration_level_is_a_number_or_the_name_of_a_column() -> None:
    for word, sigma, column in (("12", 12.0, None), ("1e1", 10.0, None), ("auto", "auto", None), ("std", "std", "std")):
        section = config("noise=null", f"denoise.sigma={word}").denoise
        assert (section.sigma, section.level_column) == (sigma, column)
    for word in ("-1", "1001", "nan", "inf", ""):
        said = r"^denoise\.sigma: must be a level from 0 to 1000, auto, or the name of a column \(got "
        with pytest.raises(UserError, match=said):
            config("noise=null", f"denoise.sigma={word}")


@pytest.mark.parametrize("strength", ["-0.1", "4.5", "nan", "null", "x"])
def test_impossible_strengths_are_refused(strength: str) -> None:
    with pytest.raises(UserError, match=r"^denoise\.strength: must be "):
        config(f"denoise.strength={strength}")


def test_restored_images_are_written_by_default() -> None:
    assert config("noise=null").images is not None
    assert config().images is None


def test_a_restoration_level_is_refused_if_noise_is_added() -> None:
    with pytest.raises(UserError, match=r"denoise\.sigma is for images that are noisy already"):
        config("denoise.sigma=12")
