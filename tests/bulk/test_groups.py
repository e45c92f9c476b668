"""Groups hold samples of one kind, as many as they may, and nothing waits that has none to wait for."""

from collections.abc import Callable

import numpy as np
import pytest

from imagewizard.bulk import groups
from imagewizard.bulk.groups import Group
from imagewizard.bulk.samples import NoisySample
from imagewizard.images.picture import Picture
from imagewizard.noise.synthetic import Gaussian, Noise


def sample(image_id: str, height: int = 4, noise: Noise = Gaussian(25.0), grey: bool = False) -> NoisySample:  # noqa: B008
    pixels = np.zeros((height, 5, 3), np.uint8)
    if not grey:
        pixels[0, 0, 1] = 1
    return NoisySample({"image_id": image_id}, Picture(pixels), noise, noise.sigma, 1)


def of(count: int) -> Callable[[int, int], int]:
    """So many images fill a batch, whatever their size."""
    return lambda height, width: count


def ids(found: list[Group]) -> list[str]:
    return ["".join(each.image_id for each in group.samples) for group in found]


def test_a_group_has_one_shape_noise_and_colour() -> None:
    mixed = [sample("a"), sample("b", 6), sample("c"), sample("d", noise=Gaussian(50.0)), sample("e", grey=True)]
    assert ids(list(groups.formed([*mixed, sample("f", 6)], of(1)))) == ["ac", "bf", "d", "e"]


def test_a_full_group_goes_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "IMAGES", 2)
    taken: list[str] = []

    def samples():  # type: ignore[no-untyped-def]
        for name in "abcde":
            taken.append(name)
            yield sample(name)

    found = groups.formed(samples(), of(2))
    assert (ids([next(found)]), taken) == (["ab"], ["a", "b"])
    assert ids(list(found)) == ["cd", "e"]


def test_what_is_no_sample_goes_on_at_once() -> None:
    done = Group([], rows=[{"image_id": "x"}])
    assert next(groups.formed([sample("a"), done, sample("b")], of(2))) is done


def test_few_pixels_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "IMAGES", 2)
    monkeypatch.setattr(groups, "LARGE_PIXELS", 70)  # a sample of height 4 has 20, one of height 6 has 30
    found = groups.formed([sample("a"), sample("b", 6), sample("c"), sample("d"), sample("e", 6)], of(1))
    assert ids(list(found)) == ["ac", "b", "d", "e"]


@pytest.mark.parametrize(("batch", "images"), [(1, 16), (5, 20), (16, 16), (40, 40)])
def test_a_group_has_whole_batches(batch: int, images: int) -> None:
    found = list(groups.formed([sample(str(number)) for number in range(2 * images + 1)], of(batch)))
    assert [len(group.samples) for group in found] == [images, images, 1]
