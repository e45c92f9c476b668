"""The section of each kind of noise."""

import inspect

import pytest

from imagewizard.config.denoise import DenoiseConfig
from imagewizard.config.loading import load
from imagewizard.config.noise import NoiseSection
from imagewizard.errors import UserError
from imagewizard.noise import synthetic


def noise(*words: str) -> NoiseSection:
    section = load(DenoiseConfig, None, ["input=in", "output=out", *words]).noise
    assert section is not None
    return section


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_parameters_of_a_section_match_its_kind(kind: str) -> None:
    section = noise(f"noise.kind={kind}")
    assert section.kind == kind
    assert section.params.keys() == inspect.signature(synthetic.KINDS[kind]).parameters.keys()


def test_section_without_a_kind_is_the_default_noise() -> None:
    section = noise("noise.sigma=30")
    assert synthetic.make(section.kind, section.params) == synthetic.DEFAULT
    assert section.sigma == [30.0]


def test_parameters_of_gaussian_noise() -> None:
    assert noise("noise.mean=-20.5").params == {"mean": -20.5}
    with pytest.raises(UserError, match=r"^noise\.mean: "):
        noise("noise.mean=300")


@pytest.mark.parametrize("levels", ["[]", "[25,25]", "-1", "1001"])
def test_impossible_levels_are_refused(levels: str) -> None:
    with pytest.raises(UserError, match=r"^noise\.sigma"):
        noise(f"noise.sigma={levels}")
