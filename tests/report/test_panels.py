"""Which images stand for a run, and how they are shown."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagewizard.noise.synthetic import Camera, Gaussian, Noise, PoissonGaussian
from imagewizard.query import sql
from imagewizard.report import panels as report_panels
from imagewizard.schema import SAME_NOISE_SINCE
from tests.support.pages import page_of, pixels
from tests.support.run_folders import error_row, row, write_rows
from tests.support.sample_files import photo


def test_the_crop_shows_where_the_detail_is(tmp_path: Path) -> None:
    image = np.full((240, 320, 3), 90, np.uint8)
    image[170:200:2, 250:300] = 200
    source = tmp_path / "stripes.png"
    Image.fromarray(image).save(source)
    write_rows(tmp_path / "run", [row("stripes.png", uri=str(source))])
    page = page_of(tmp_path / "run")
    assert (pixels(page.images[1]) == 200).sum() == 15 * 50 * 3


def test_samples_lie_over_the_whole_range_and_are_the_same_each_time(tmp_path: Path) -> None:
    gains = np.random.default_rng(0).permutation(101) / 10
    rows = [row(f"{number:03d}.png", psnr=20.0 + gain, psnr_noisy=20.0) for number, gain in enumerate(gains)]
    write_rows(tmp_path, [*rows, error_row("failed.png", "read", "gone"), row("flat.png", psnr=None, sigma=50.0)])
    score = "psnr - psnr_noisy"
    with sql.connect([str(tmp_path)]) as connection:
        chosen = report_panels.choose(connection, score, levels=1)
        assert report_panels.choose(connection, score, levels=1) == chosen
        few = report_panels.choose(connection, score, levels=4)
    assert [place for place, _ in chosen] == [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1]
    found = [each["psnr"] - 20.0 for _, each in chosen]
    assert found == pytest.approx([10 * place for place, _ in chosen], abs=0.11)
    assert [place for place, _ in few] == [0, 0.5, 1]


def test_twelve_panels_stay_small(tmp_path: Path) -> None:
    """Twelve of the largest panels, of an image with as much noise as is of any use."""
    y, x = np.mgrid[0:600, 0:600]
    source = tmp_path / "waves.png"
    Image.fromarray(np.stack([128 + 100 * np.sin(x * y / k) for k in (900, 1500, 4000)], -1).astype(np.uint8)).save(
        source
    )
    stored = row("waves.png", sigma=75.0, uri=str(source), width=600, height=600, output_uri=str(source))
    panels = report_panels.sample("median", stored, 10**6).panels
    assert [panel.name for panel in panels] == ["clean", "noisy", "denoised"]
    assert report_panels.MOST * sum(len(panel.whole) + len(panel.crop or "") for panel in panels) < 8_000_000


@pytest.mark.parametrize("noise", [PoissonGaussian(4.0, 9.0), Camera(gain=64.0)], ids=lambda noise: noise.kind)
def test_noise_of_each_kind_is_made_again_from_its_row(tmp_path: Path, noise: Noise) -> None:
    clean = photo(72, 112, 0)  # as large as a crop, which is lossless
    Image.fromarray(clean).save(tmp_path / "a.png")
    made = {"noise_kind": noise.kind, "noise_params": noise.params(), "sigma": None, "seed": 3}
    stored = row("a.png", uri=str(tmp_path / "a.png"), width=112, height=72, **made)
    crop = report_panels.sample("", stored, 10**6).panels[1].crop
    expected = noise.add(clean, "a.png", 3).clip(0, 255).round()
    np.testing.assert_array_equal(pixels({"src": crop}), expected)


def test_noise_that_this_version_draws_otherwise_is_not_shown(tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.new("RGB", (20, 10), (200, 100, 50)).save(source)
    for noise in (Gaussian(25.0), PoissonGaussian(0.5, 4.0), Camera()):
        since, columns = SAME_NOISE_SINCE[noise.kind], {"noise_params": noise.params(), "sigma": noise.sigma}
        stored = row("a", uri=str(source), width=20, height=10, noise_kind=noise.kind, **columns)
        made = report_panels.sample("", stored, 10**6, since - 1)
        assert [panel.name for panel in made.panels] == ["clean"]
        assert made.missing == ["the noisy image cannot be shown: this version of Image Wizard draws other noise"]
        assert len(report_panels.sample("", stored, 10**6, since).panels) == 2


def test_large_images_are_scaled_down_and_tiny_ones_shown_by_pixels(tmp_path: Path) -> None:
    for name, size in {"wide": (1500, 40), "tall": (1, 1300), "tiny": (20, 10)}.items():
        source = tmp_path / f"{name}.png"
        Image.new("RGB", size, (200, 100, 50)).save(source)
        made = report_panels.sample("", row(name, uri=str(source), width=size[0], height=size[1]), 10**6)
        assert [panel.name for panel in made.panels] == ["clean", "noisy"]
        shown = pixels({"src": made.panels[0].whole})
        assert max(shown.shape) <= 600 and made.panels[0].crop is None
        assert np.abs(shown.reshape(-1, 3).mean(axis=0) - (200, 100, 50)).max() < 4
