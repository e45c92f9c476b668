"""Scores of batches of tensors, on the CPU and on a GPU."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.utils._python_dispatch import TorchDispatchMode

from imagewizard.metrics import METRICS, device

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
RANDOM = np.random.default_rng(0)


def batch(channels: int = 3, height: int = 40, width: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Clean images, uint8, and noisy ones, float32: random, equal, flat, near-flat and bright."""
    clean = RANDOM.integers(0, 256, (5, height, width, channels), dtype=np.uint8)
    clean[2:4] = 250
    noisy = clean + 25 * RANDOM.standard_normal(clean.shape, dtype=np.float32)
    noisy[1] = clean[1]
    noisy[3] = clean[3] + np.float32(0.25)
    noisy[4] += 800
    return clean, noisy


def expected(clean: np.ndarray, images: np.ndarray) -> dict[str, list[float]]:
    pairs = [(y.astype(float), x.astype(float)) for y, x in zip(clean, images, strict=True)]
    with np.errstate(divide="ignore"):
        psnr = [min(peak_signal_noise_ratio(*pair, data_range=255), 100.0) for pair in pairs]
    return {"psnr": psnr, "ssim": [structural_similarity(*pair, channel_axis=-1, data_range=255) for pair in pairs]}


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_scores_are_scikit_images(where: str, channels: int, kind: type) -> None:
    clean, images = batch(channels)
    images = images.clip(0, 255).round().astype(kind) if kind == np.uint8 else images
    found = device.scores(torch.from_numpy(clean).to(where), torch.from_numpy(images).to(where))
    assert found.keys() == METRICS.keys()
    for name, values in expected(clean, images).items():
        assert found[name].dtype == torch.float64 and found[name].device.type == where
        assert found[name].tolist() == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("piece", [1, 700, 2100, 12_001, 13_000])
def test_pieces_make_up_the_batch(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a row, of several rows, of two images and a rest."""
    clean, images = (torch.from_numpy(each) for each in batch())
    whole = device.scores(clean, images)
    monkeypatch.setattr(device, "PIECE", piece)
    for name, values in device.scores(clean, images).items():
        torch.testing.assert_close(values, whole[name], rtol=1e-12, atol=0)


class Largest(TorchDispatchMode):
    """Notes how many float64 values the largest tensor has that is made."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            self.numel = max(self.numel, result.numel())
        return result


def test_a_large_image_takes_little_memory() -> None:
    """No plane is of the whole image: at most four quantities of a piece, and the rows that its windows reach into."""
    image = torch.zeros(1, 3000, 1000, 3, dtype=torch.uint8)
    with Largest() as largest:
        device.scores(image, image)
    assert device.PIECE < largest.numel <= 4 * (device.PIECE + 6 * 3000) < image.numel()


@pytest.mark.parametrize("where", DEVICES)
def test_images_without_a_window_have_no_ssim(where: str) -> None:
    clean = torch.zeros(2, 6, 50, 3, dtype=torch.uint8, device=where)
    found = device.scores(clean, clean + 255)
    assert found["psnr"].tolist() == pytest.approx([0.0, 0.0], abs=1e-12) and found["ssim"].isnan().all()
    transposed = clean.transpose(1, 2)
    assert device.scores(transposed, transposed)["ssim"].isnan().all()


def test_a_nan_is_no_good_score() -> None:
    clean = torch.zeros(1, 20, 20, 1)
    image = clean.clone()
    image[0, 3, 3, 0] = torch.nan
    assert all(value.isnan().all() for value in device.scores(clean, image).values())


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        device.scores(torch.zeros(1, 20, 20, 3), torch.zeros(1, 20, 20, 1))


@pytest.mark.gpu
def test_scores_do_not_wait_for_the_gpu() -> None:
    clean, images = (torch.from_numpy(each).to("cuda") for each in batch())
    torch.cuda.set_sync_debug_mode("error")
    try:
        device.scores(clean, images)
    finally:
        torch.cuda.set_sync_debug_mode("default")
