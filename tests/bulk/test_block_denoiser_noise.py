"""What an actor does with kinds of noise, and with levels that are found, given or multiplied."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from imagewizard.bulk import block as blocks
from imagewizard.bulk import block_denoiser
from imagewizard.bulk.block import Block
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.images.picture import Picture
from imagewizard.noise import level, synthetic
from imagewizard.noise.level import Found
from imagewizard.runs.results import BlockFile
from tests.support.actors import actor, block, picture_of, pictures, rows_of
from tests.support.models import tiny_model
from tests.support.sample_files import photo


def test_rows_of_other_kinds_have_their_parameters_and_the_level_that_was_found(tmp_path: Path) -> None:
    clean = photo(64, 64, 0)
    noise = {"kind": "poisson-gaussian", "a": [0.5, 4.0], "b": [1.0, 100.0]}
    found = rows_of(actor(tiny_model(tmp_path / "m"), noise=noise, seed=3)(block(clean, photo(40, 40, 1), rows=4)))
    assert [(row["image_id"], row["noise_params"]) for row in found] == [
        (image, f'{{"a": {a}, "b": {b}}}') for image in "01" for a in (0.5, 4.0) for b in (1.0, 100.0)
    ]
    for row in found:
        assert (row["noise_kind"], row["sigma"], row["status"]) == ("poisson-gaussian", None, "ok")
        assert row["noise_std"] > 0 and row["sigma_estimated"] > 0 and row["timestep"] is not None
    noisy = synthetic.PoissonGaussian(4.0, 100.0).add(clean, "0", 3)
    assert found[3]["psnr_noisy"] == pytest.approx(peak_signal_noise_ratio(clean, noisy, data_range=255), abs=1e-4)
    expected = level.find(noisy)
    assert (found[3]["noise_std"], found[3]["noise_found"]) == (expected.std, expected.kind)
    assert (found[3]["sigma_estimated"], found[3]["noise_gain"]) == (expected.level, expected.gain)


def test_rows_of_a_camera_do_not_depend_on_their_company(tmp_path: Path) -> None:
    denoise = actor(tiny_model(tmp_path / "m"), noise={"kind": "camera", "gain": [4, 64]})
    clean = photo(24, 40, 0)
    together = rows_of(denoise(block(clean, photo(24, 40, 1), photo(9, 9, 2), rows=2)))
    alone = rows_of(denoise(block(clean, rows=2)))
    for first, second in zip(together, alone, strict=False):
        measured = ("image_id", "noise_params", "psnr_noisy", "ssim_noisy", "noise_std", "sigma_estimated")
        assert [first[name] for name in measured] == [second[name] for name in measured]
        noise = synthetic.Camera(**json.loads(first["noise_params"]))
        noisy = noise.add(clean, "0", 0)
        assert first["psnr_noisy"] == pytest.approx(peak_signal_noise_ratio(clean, noisy, data_range=255), abs=1e-4)
    assert [json.loads(row["noise_params"])["gain"] for row in together] == [4.0, 64.0] * 3
    assert {(row["noise_kind"], row["sigma"]) for row in together} == {("camera", None)}


def test_a_known_level_is_not_looked_for(tmp_path: Path) -> None:
    (added,) = rows_of(actor(tiny_model(tmp_path / "m"))(block(photo(64, 64, 0))))
    restore = actor(tiny_model(tmp_path / "m2"), noise=None, denoise={"sigma": 12})
    (given,) = rows_of(restore(block(photo(64, 64, 0))))
    for row in (added, given):
        assert [row[name] for name in ("sigma_estimated", "noise_std", "noise_found", "noise_gain")] == [None] * 4
        assert row["strength"] == 1.0


@pytest.mark.parametrize("noise", [{"sigma": 20}, None, {"kind": "poisson-gaussian"}], ids=str)
def test_strength_multiplies_what_the_model_is_told(tmp_path: Path, noise: dict | None) -> None:
    model = tiny_model(tmp_path / "m")
    image = block(np.clip(synthetic.Gaussian(20.0).add(photo(64, 64, 0), "0", 0), 0, 255).round().astype(np.uint8))
    (row,) = rows_of(actor(model, noise=noise)(image))
    (half,) = rows_of(actor(model, noise=noise, denoise={"strength": 0.5})(image))
    denoised = actor(model, noise=noise, denoise={"strength": 0}, images={})(image)
    (none,) = rows_of(denoised)
    assert (row["strength"], half["strength"], none["strength"]) == (1.0, 0.5, 0.0)
    assert half["noise_std"] == row["noise_std"] and half["sigma"] == row["sigma"]
    schedule = NoiseSchedule.from_config(json.loads((model / "scheduler_config.json").read_text()))
    told = row["sigma"] or row["sigma_estimated"]
    assert row["timestep"] == schedule.timestep(told) and half["timestep"] == schedule.timestep(0.5 * told)
    if row["sigma"] is None:
        assert half["sigma_estimated"] == 0.5 * row["sigma_estimated"] and none["sigma_estimated"] == 0.0
    assert none["timestep"] is None
    if noise is None:
        np.testing.assert_array_equal(picture_of(denoised).pixels, image.images[0]["picture"].pixels)


def test_an_image_without_a_level_to_be_found_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimator is a stand-in: which images have none is its own matter."""
    alphas = []

    def nothing(image: np.ndarray, alpha: np.ndarray | None, device: torch.device) -> Found:
        alphas.append(alpha)
        return Found(None, None, "none", None)

    monkeypatch.setattr(block_denoiser, "find", nothing)
    pixels, alpha = photo(40, 30, 0), np.zeros((40, 30), np.uint8)
    denoised = actor(tiny_model(tmp_path / "m"), noise=None)(pictures(Picture(pixels, alpha, notes=("one",))))
    (row,) = rows_of(denoised)
    assert [row[name] for name in ("sigma_estimated", "noise_std", "noise_found", "timestep")] == [None] * 4
    assert row["status"] == "ok" and row["notes"].startswith("one; no noise level could be found")
    np.testing.assert_array_equal(picture_of(denoised).pixels, pixels)
    np.testing.assert_array_equal(alphas[0], alpha)


def test_each_image_is_told_the_level_that_its_manifest_gives(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "m")
    restore = actor(model, noise=None, denoise={"sigma": "std", "strength": 0.5})
    levels = ["12.5", None, "-1", "nan", "12,5", "1000.5", "a lot", "0", "1e1"]
    images = [Picture(photo(16, 16, number)) for number in range(len(levels))]
    found = rows_of(restore(pictures(*images, levels=levels)))
    schedule = NoiseSchedule.from_config(json.loads((model / "scheduler_config.json").read_text()))
    by_id = {row["image_id"]: row for row in found}
    assert [by_id[i]["sigma"] for i in "0123"] == [12.5, None, None, None]
    assert (by_id["7"]["sigma"], by_id["8"]["sigma"]) == (0.0, 10.0)
    assert by_id["0"]["timestep"] == schedule.timestep(6.25) and by_id["7"]["timestep"] is None
    assert [by_id[i]["status"] for i in "078"] == ["ok"] * 3 and by_id["0"]["sigma_estimated"] is None
    for number, text in {
        1: "is null",
        2: "holds '-1'",
        3: "holds 'nan'",
        4: "holds '12,5'",
        5: "holds '1000.5'",
    }.items():
        row = by_id[str(number)]
        assert (row["status"], row["stage"]) == ("error", "noise")
        assert row["error"] == f"column std {text}, which is no noise level from 0 to 1000"
    assert len(found) == len(levels) and by_id["6"]["status"] == "error"


def test_an_unreadable_image_has_the_level_of_its_manifest(tmp_path: Path) -> None:
    """So that its row has the same key when a retry succeeds."""
    rows = [
        dict.fromkeys(blocks.WORK_SCHEMA.names)
        | {"image_id": str(number), "uri": "/x", "sigma": given, "settings": [0], "attempts": [1]}
        | {"stage": "read", "error": "gone"}
        for number, given in enumerate(["7", "x"])
    ]
    read = Block(BlockFile(0, 0, 1), rows)
    found = rows_of(actor(tiny_model(tmp_path / "m"), noise=None, denoise={"sigma": "std"})(read))
    assert [(row["sigma"], row["stage"], row["error"]) for row in found] == [
        (7.0, "read", "gone"), (None, "read", "gone"),
    ]  # fmt: skip
