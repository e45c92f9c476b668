"""The images of a training's config: what must be given, and what cannot go together."""

from tests.config.test_train import least, refusal


def test_a_run_trains_on_images_or_pairs() -> None:
    pairs = ["data.pairs.noisy=n", "data.pairs.clean=c"]
    assert least(*pairs).data.sources == ["photos", "n", "c"]
    assert least("data.train=null", *pairs).data.sources == ["n", "c"]
    assert least().data.sources == ["photos"]
    assert refusal("data.train=null") == (
        "data: names no images to train on: give train (clean ones) or pairs (noisy and clean ones)"
    )
    assert refusal("data.train=null", "data.camera=0.5", *pairs) == (
        "data: camera is a share of the crops of train: give train, or leave camera out"
    )
    assert refusal("data.pairs.noisy=n").startswith("data.pairs.clean: is required")
    assert refusal("data.camera=2") == "data.camera: must be less than or equal to 1 (got 2)"


def test_a_run_validates_with_images_or_pairs() -> None:
    pairs = ["validation.pairs.noisy=n", "validation.pairs.clean=c"]
    assert least("data.validation=null", *pairs).validation.pairs == least(*pairs).validation.pairs is not None
    assert refusal("data.validation=null") == (
        "data.validation: names no images to validate with: give clean ones, or noisy and clean ones as "
        "validation.pairs"
    )
