"""The section of each kind of noise."""

import inspect
from typing import Any

import pytest

from imagewizard.config.denoise import DenoiseConfig
from imagewizard.config.loading import load
from imagewizard.config.noise import CameraNoise, GaussianNoise, PoissonGaussianNoise
from imagewizard.errors import UserError
from imagewizard.noise import synthetic

Section = GaussianNoise | PoissonGaussianNoise | CameraNoise


def noise(*words: str) -> Section:
    section = load(DenoiseConfig, None, ["input=in", "output=out", *words]).noise
    assert section is not None
    return section


def complaint(*words: str) -> str:
    with pytest.raises(UserError) as error:
        noise(*words)
    return str(error.value)


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_parameters_of_a_section_match_its_kind(kind: str) -> None:
    section = noise(f"noise.kind={kind}")
    assert section.kind == kind
    [setting] = section.settings
    assert setting.keys() == inspect.signature(synthetic.KINDS[kind]).parameters.keys()
    assert [each.setting for each in synthetic.make(kind, [setting])]


def test_defaults_of_the_camera_are_those_of_its_class() -> None:
    assert synthetic.make("camera", noise("noise.kind=camera").settings) == [synthetic.Camera()]


def test_section_without_a_kind_is_gaussian() -> None:
    assert synthetic.make("gaussian", noise("noise.sigma=30").settings) == [synthetic.Gaussian(30.0)]
    assert noise() == noise("noise={}") == noise("noise.kind=gaussian") == GaussianNoise()


def test_mean_of_gaussian_noise_has_bounds() -> None:
    assert noise("noise.mean=-20.5", "noise.sigma=[15,25]").settings == [
        {"sigma": 15.0, "mean": -20.5},
        {"sigma": 25.0, "mean": -20.5},
    ]
    assert complaint("noise.mean=300").startswith("noise.mean: ")


def test_lists_of_a_kind_multiply() -> None:
    found = noise("noise.kind=poisson-gaussian", "noise.a=[0.5,1]", "noise.b=[4,8,9]").settings
    assert [tuple(each.values()) for each in found] == [(a, b) for a in (0.5, 1.0) for b in (4.0, 8.0, 9.0)]
    words = ["noise.kind=camera", "noise.gain=[4,16]", "noise.quality=[80,95]", "noise.subsampling=[4:4:4, 4:2:0]"]
    seen = [(each["gain"], each["quality"], each["subsampling"]) for each in noise(*words).settings]
    assert seen == [(g, q, s) for g in (4.0, 16.0) for q in (80, 95) for s in ("4:4:4", "4:2:0")]


@pytest.mark.parametrize("values", ["[]", "[25,25]", "-1", "1001", ".nan"])
@pytest.mark.parametrize("key", ["sigma", "a"])
def test_impossible_levels_are_refused(values: str, key: str) -> None:
    kind = "gaussian" if key == "sigma" else "poisson-gaussian"
    assert complaint(f"noise.kind={kind}", f"noise.{key}={values}").startswith(f"noise.{key}")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["noise.kind=poisson"], "noise.kind: must be 'gaussian', 'poisson-gaussian' or 'camera' (got 'poisson')"),
        (["noise.a=1"], "noise.a: unknown key; noise.kind=poisson-gaussian has it, this kind has: sigma, mean"),
        (
            ["noise.kind=poisson-gaussian", "noise.sigma=25"],
            "noise.sigma: unknown key; noise.kind=gaussian has it, this kind has: a, b",
        ),
        (["noise.kind=camera", "noise.gian=4"], "noise.gian: unknown key; did you mean gain?"),
        (["noise.kind=camera", "noise.quality=90.5"], "noise.quality.0: must be a valid integer, got a number with"),
        (
            ["noise.kind=poisson-gaussian", "noise.a=[0,1]", "noise.b=[0,4]"],
            "noise: a and b are both 0, which is no noise; give one of them above 0",
        ),
        (["noise=3"], "noise: must be a section of keys and values (got 3); write noise.NAME=value"),
    ],
    ids=str,
)
def test_complaints_are_one_line_that_names_the_key(words: list[str], line: str) -> None:
    found: Any = complaint(*words)
    assert found.startswith(line) and "\n" not in found
