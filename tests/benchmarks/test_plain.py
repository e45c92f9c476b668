"""The plain loop does the same work as the bulk job."""

import time
from pathlib import Path

import numpy as np
import pytest
import skimage.metrics
import torch

from imagewizard.benchmarks import plain
from imagewizard.config.denoise import DenoiseSection
from imagewizard.diffusion import pixels
from imagewizard.images.picture import decode_rgb
from tests.support.sample_files import write_photos

IMAGES = 5


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    write_photos(tmp_path, IMAGES, 32)
    return sorted(tmp_path.iterdir())


def test_it_scores_every_image_before_and_after(photos: list[Path], tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[str] = []
    for name in ("peak_signal_noise_ratio", "structural_similarity"):
        theirs = getattr(skimage.metrics, name)
        monkeypatch.setattr(
            skimage.metrics, name, lambda *a, theirs=theirs, name=name, **k: (scored.append(name), theirs(*a, **k))[1]
        )
    denoiser = plain.load(tiny, DenoiseSection())
    started = time.perf_counter()
    rate, images = plain.rate(photos, 25.0, denoiser, seconds=1000.0)
    assert rate >= IMAGES / (time.perf_counter() - started)
    assert images == IMAGES and len(scored) == 4 * IMAGES


def test_the_model_sees_the_images_with_their_noise(photos: list[Path]) -> None:
    seen: list[torch.Tensor] = []

    def watched(noisy: list[torch.Tensor], sigmas: list[float]) -> list[torch.Tensor]:
        assert sigmas == [50.0]
        seen.extend(noisy)
        return noisy

    plain.rate(photos, 50.0, watched, seconds=1000.0)  # type: ignore[arg-type]
    clean = [pixels.to_tensor(decode_rgb(path.read_bytes(), 10**9)) for path in photos]
    levels = [float((noisy - image).std()) * 255 / 2 for noisy, image in zip(seen, clean, strict=True)]
    assert np.mean(levels) == pytest.approx(50.0, rel=0.05)


def test_it_ends_when_its_time_is_over(photos: list[Path]) -> None:
    rate, images = plain.rate(photos, 25.0, lambda noisy, sigmas: noisy, seconds=0.0)  # type: ignore[arg-type, return-value]
    assert images == 1 and rate > 0
