"""Smeared noise is taken off at half the size first; other images go through as they are."""

import torch
from torch import Tensor

from imagewizard.diffusion import two_scales

GENERATOR = torch.Generator().manual_seed(0)


class Recorder:
    """Stands in for the denoiser: takes `share` of each image, and keeps what it was given."""

    def __init__(self, share: float) -> None:
        self.share, self.calls = share, []

    def __call__(self, noisy: list[Tensor], sigmas: list[float]) -> list[Tensor]:
        self.calls.append(([tuple(each.shape) for each in noisy], list(sigmas)))
        return [each if sigma == 0 else self.share * each for each, sigma in zip(noisy, sigmas, strict=True)]


def images(*shapes: tuple[int, int]) -> list[Tensor]:
    return [torch.randn(3, *shape, generator=GENERATOR) for shape in shapes]


def test_only_smeared_images_take_two_scales():
    denoiser, noisy = Recorder(0.5), images((8, 6), (8, 6), (8, 6))
    found = two_scales.denoise(denoiser, noisy, [10.0, 20.0, 0.0], [False, True, True])
    assert denoiser.calls == [
        ([(3, 4, 3)], [two_scales.COARSE * 20.0]),
        ([(3, 8, 6)] * 3, [10.0, two_scales.FINE * 20.0, 0.0]),
    ]
    assert torch.equal(found[0], 0.5 * noisy[0]) and torch.equal(found[2], noisy[2])
    assert not torch.allclose(found[1], 0.5 * noisy[1])


def test_what_changes_at_half_the_size_is_added_to_the_image():
    flat = torch.full((3, 7, 5), 0.8)
    (found,) = two_scales.denoise(Recorder(0.5), [flat], [10.0], [True])
    assert torch.allclose(found, 0.5 * (flat - 0.4))


def test_an_image_keeps_its_size_and_its_pixels_their_places():
    for shape in ((1, 1), (1, 9), (33, 18), (40, 41)):
        (noisy,) = images(shape)
        (found,) = two_scales.denoise(Recorder(1.0), [noisy], [10.0], [True])
        assert torch.equal(found, noisy)
