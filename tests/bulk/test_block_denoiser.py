"""What an actor does with a block, without Ray: the three steps, and that one bad image never costs its neighbours."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage.metrics import peak_signal_noise_ratio

from imagewizard.bulk import block as blocks
from imagewizard.bulk import block_denoiser
from imagewizard.bulk.block import Block
from imagewizard.bulk.block_denoiser import BlockDenoiser
from imagewizard.config.denoise import ActorConfig, DenoiseConfig
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.images.metadata import Metadata
from imagewizard.images.picture import Picture
from imagewizard.models import files as model_files
from imagewizard.noise import level, synthetic
from imagewizard.noise.level import Found
from imagewizard.runs.results import BlockFile
from tests.support.models import tiny_model
from tests.support.sample_files import photo


def actor(model: Path | str, **config: object) -> BlockDenoiser:
    job = DenoiseConfig.model_validate({"input": "in", "output": "out", "model": str(model), **config})
    fingerprint = model_files.find(job.model).fingerprint
    return BlockDenoiser(
        ActorConfig(job.model, fingerprint, job.noise, job.denoise, job.images, job.seed, job.max_pixels, 4, threads=1)
    )


def block(*images: np.ndarray, rows: int = 1) -> Block:
    return pictures(*map(Picture, images), rows=rows)


def pictures(*images: Picture, rows: int = 1, levels: list[str | None] | None = None) -> Block:
    """A block with `rows` rows of each image to be made; `levels`: what a manifest holds of each image."""
    work = {"settings": list(range(rows)), "attempts": [1] * rows}
    table = [
        {"image_id": str(number), "uri": f"/{number}", "sigma": levels and levels[number]}
        | work
        | blocks.picture_columns(image)
        for number, image in enumerate(images)
    ]
    return Block(BlockFile(0, 0, 1), pa.Table.from_pylist(table, schema=blocks.DECODED_SCHEMA), {"read": 1.0})


def rows_of(denoised: Block) -> list[dict]:
    assert denoised.images.schema.equals(blocks.DENOISED_SCHEMA)
    return denoised.images.to_pylist()


def picture_of(denoised: Block, index: int = 0) -> Picture:
    found = blocks.picture_at(denoised.images, index, "picture_")
    assert found is not None
    return found


def test_a_network_that_sees_no_noise_returns_the_noisy_image(tmp_path: Path) -> None:
    """eps = 0 makes the estimate the noisy image itself: the steps around the network add nothing of their own."""
    clean = photo(24, 32, 0)
    (row,) = rows_of(actor(tiny_model(tmp_path / "zero", zero=True), seed=3)(block(clean)))
    noisy = synthetic.Gaussian(25.0).add(clean, "0", 3)
    as_image = noisy.clip(0, 255).round().astype(np.uint8)
    assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(clean, as_image), abs=1e-6)
    assert row["psnr_noisy"] == pytest.approx(
        peak_signal_noise_ratio(clean.astype(float), noisy.astype(float), data_range=255), abs=1e-6
    )
    assert (row["width"], row["height"]) == (32, 24)


def test_a_grey_image_is_grey_throughout(tmp_path: Path) -> None:
    """Its rows are those of a one-channel image, and its file has the channels that it came with."""
    grey = photo(40, 48, 1)[:, :, 1:2]
    denoised = actor(tiny_model(tmp_path / "m"), images={})(pictures(Picture(grey), Picture(grey.repeat(3, axis=2))))
    one, three = rows_of(denoised)
    noisy = synthetic.Gaussian(25.0).add(grey, "0", 0)
    assert noisy.shape == grey.shape
    assert one["psnr_noisy"] == pytest.approx(peak_signal_noise_ratio(grey, noisy, data_range=255), abs=1e-4)
    result, planes = picture_of(denoised).pixels, picture_of(denoised, 1).pixels
    assert result.shape == grey.shape and planes.shape == (40, 48, 3)
    assert one["psnr"] == pytest.approx(peak_signal_noise_ratio(grey, result, data_range=255), abs=1e-4)
    assert (planes == planes[:, :, :1]).all()
    noisy = synthetic.Gaussian(25.0).add(grey, "1", 0)
    assert three["psnr_noisy"] == pytest.approx(peak_signal_noise_ratio(grey, noisy, data_range=255), abs=1e-4)
    assert three["psnr"] == pytest.approx(peak_signal_noise_ratio(grey, planes[:, :, :1], data_range=255), abs=1e-4)


def test_the_level_of_a_grey_file_is_found(tmp_path: Path) -> None:
    grey = photo(64, 48, 1)[:, :, 1:2]
    noisy = np.clip(synthetic.Gaussian(25.0).add(grey, "0", 0), 0, 255).round().astype(np.uint8)
    denoise = actor(tiny_model(tmp_path / "m"), noise=None)
    one, three = rows_of(denoise(block(noisy, noisy.repeat(3, axis=2))))
    assert one["sigma_estimated"] == pytest.approx(three["sigma_estimated"]) and 15 < one["sigma_estimated"] < 35


def test_sigma_zero_is_the_image_itself(tmp_path: Path) -> None:
    (row,) = rows_of(actor(tiny_model(tmp_path / "m"), noise={"sigma": 0})(block(photo(16, 16, 0))))
    assert (row["psnr"], row["psnr_noisy"], row["ssim"], row["timestep"]) == (100.0, 100.0, 1.0, None)


def test_levels_and_sizes_are_mixed_in_one_block(tmp_path: Path) -> None:
    images = [photo(8, 8, 0), photo(5, 40, 1), photo(1, 1, 2)]
    found = rows_of(actor(tiny_model(tmp_path / "m"), noise={"sigma": [15, 50]})(block(*images, rows=2)))
    assert [(row["image_id"], row["sigma"]) for row in found] == [(i, s) for i in "012" for s in (15.0, 50.0)]
    assert [row["ssim"] is None for row in found] == [False, False, True, True, True, True]
    assert all(row["status"] == "ok" for row in found)


def test_an_output_that_is_not_finite_is_an_error_row(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    weights = load_file(folder / model_files.WEIGHTS)
    weights["conv_out.bias"] = torch.full_like(weights["conv_out.bias"], float("nan"))
    save_file(weights, folder / model_files.WEIGHTS)
    found = rows_of(actor(folder)(block(photo(16, 16, 0), photo(8, 8, 1))))
    assert [(row["status"], row["stage"], row["error"]) for row in found] == [
        ("error", "denoise", "the model's estimate is not finite")
    ] * 2


def test_an_image_too_large_for_memory_costs_only_its_own_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = actor(tiny_model(tmp_path / "m"))
    real = denoiser._denoiser._denoise

    def small_memory(noisy: torch.Tensor, sigmas: list[float]) -> torch.Tensor:
        """The real network, on a device that pretends to hold 1000 pixels."""
        if noisy.shape[2] * noisy.shape[3] > 1000:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(noisy, sigmas)

    monkeypatch.setattr(denoiser._denoiser, "_denoise", small_memory)
    found = rows_of(denoiser(block(photo(16, 16, 0), photo(40, 40, 1), photo(16, 16, 2))))
    assert [row["status"] for row in found] == ["ok", "error", "ok"]
    assert "40x40 does not fit" in found[1]["error"]


@pytest.mark.parametrize("stage", ["noise", "denoise", "score"])
def test_an_error_row_names_the_step_that_failed_and_costs_only_its_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    denoiser = actor(tiny_model(tmp_path / "m"), images={"format": "png"})
    name = {"noise": "add_noise"}.get(stage, stage)
    real = getattr(denoiser, name)

    def short_of_memory(samples: Any, *rest: Any) -> Any:
        for sample in samples if isinstance(samples, list) else [samples]:
            if sample.image["image_id"] == "1":
                raise MemoryError("no room")
        return real(samples, *rest)

    monkeypatch.setattr(denoiser, name, short_of_memory)
    found = rows_of(denoiser(block(photo(8, 8, 0), photo(8, 8, 1), photo(8, 8, 2))))
    assert [(row["image_id"], row["stage"], row["error"]) for row in found] == [
        ("0", None, None), ("1", stage, "no room"), ("2", None, None),
    ]  # fmt: skip
    assert [row["picture_pixels"] is None for row in found] == [False, True, False]
    assert (found[1]["width"], found[1]["noise_kind"], found[1]["psnr"]) == (8, "gaussian", None)


def test_a_level_beyond_the_models_costs_only_its_image(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m", schedule={"trained_betas": [1e-4, 1e-3]})  # up to sigma 4.2
    noisy = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    ramp = np.broadcast_to(np.arange(0, 80, 2, dtype=np.uint8)[:, None, None], (40, 40, 3))
    found = rows_of(actor(folder, noise=None)(block(noisy, ramp)))
    assert [(row["status"], row["stage"]) for row in found] == [("error", "denoise"), ("ok", None)]
    assert "beyond the model's schedule" in found[0]["error"]
    assert [row["noise_std"] is None for row in found] == [True, False] and found[0]["sigma_estimated"] is None


def test_another_model_than_the_job_was_started_with_is_refused(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    job = DenoiseConfig.model_validate({"input": "in", "output": "out"})
    with pytest.raises(RuntimeError, match="is not the same"):
        BlockDenoiser(ActorConfig(str(folder), "0" * 16, job.noise, job.denoise, None, 0, 10**6, 1, 1))


def test_a_given_level_is_used_as_it_is(tmp_path: Path) -> None:
    restore = actor(tiny_model(tmp_path / "m"), noise=None, denoise={"sigma": 12})
    (row,) = rows_of(restore(block(photo(16, 16, 0))))
    assert (row["sigma"], row["sigma_estimated"], row["psnr"], row["noise_kind"]) == (12.0, None, None, None)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_restored_picture_keeps_its_type_channels_and_company(tmp_path: Path, dtype: type, channels: int) -> None:
    """eps = 0: what comes out is what went in, to the last of its bits; alpha, ICC and EXIF pass by."""
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, top, (12, 10, channels), dtype, endpoint=True)
    alpha = np.random.default_rng(1).integers(0, top, (12, 10), dtype, endpoint=True)
    restore = actor(tiny_model(tmp_path / "zero", zero=True), noise=None, denoise={"sigma": 12})
    found = picture_of(restore(pictures(Picture(pixels, alpha, Metadata(b"icc", b"exif")))))
    assert found.pixels.dtype == dtype and found.pixels.shape == pixels.shape
    assert np.abs(found.pixels.astype(int) - pixels).max() <= (0 if dtype == np.uint8 else 1)  # float32 has 24 bits
    np.testing.assert_array_equal(found.alpha, alpha)
    assert found.metadata == Metadata(b"icc", b"exif")


def test_notes_on_an_image_are_in_its_rows(tmp_path: Path) -> None:
    noted = Picture(photo(12, 10, 0), notes=("one", "another"))
    rows = rows_of(actor(tiny_model(tmp_path / "m"))(pictures(noted, Picture(photo(12, 10, 0)))))
    assert [each["notes"] for each in rows] == ["one; another", None]


def test_sixteen_bits_are_denoised_as_finely_as_they_are(tmp_path: Path) -> None:
    """The level of a picture of 16 bits is on the 0-255 scale too, and its estimate is no rounded 8-bit one."""
    model = tiny_model(tmp_path / "m")
    coarse = photo(40, 40, 0)
    restore = actor(model, noise=None)
    deep = restore(pictures(Picture(coarse.astype(np.uint16) * 257)))
    shallow = restore(block(coarse))
    (row,), (other,) = rows_of(deep), rows_of(shallow)
    assert row["sigma_estimated"] == pytest.approx(other["sigma_estimated"], rel=1e-5) and row["sigma_estimated"] > 0
    found = picture_of(deep).pixels
    np.testing.assert_allclose(found / 257, picture_of(shallow).pixels, atol=0.51)
    assert (found % 257 != 0).mean() > 0.9


def test_no_picture_travels_that_is_not_to_be_written(tmp_path: Path) -> None:
    (row,) = rows_of(actor(tiny_model(tmp_path / "m"))(block(photo(16, 16, 0))))
    assert row["picture_pixels"] is None and row["encoded"] is None


def test_pictures_beyond_what_a_block_may_carry_travel_as_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = actor(tiny_model(tmp_path / "m"), images={"format": "png"})
    images = [photo(16, 16, seed) for seed in range(4)]
    as_pixels = writer(block(*images))
    monkeypatch.setattr(blocks, "PIXEL_BYTES", 16 * 16 * 3)
    for _ in range(2):  # each block may carry so much
        packed = writer(block(*images))
        assert [row["encoded"] is None for row in rows_of(packed)] == [True, True, False, False]
        for index, row in enumerate(rows_of(packed)[2:], start=2):
            expected = picture_of(as_pixels, index).pixels
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["encoded"]))), expected)


def test_an_image_that_the_format_cannot_hold_is_a_write_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "PIXEL_BYTES", 0)
    writer = actor(tiny_model(tmp_path / "m"), images={"format": "webp"})
    found = rows_of(writer(block(photo(4, 4, 0), photo(16_400, 1, 0), photo(8, 8, 1))))
    assert [(row["status"], row["stage"]) for row in found] == [("ok", None), ("error", "write"), ("ok", None)]


def test_the_time_of_each_step_is_told(tmp_path: Path) -> None:
    found = actor(tiny_model(tmp_path / "m"))(block(photo(16, 16, 0))).seconds
    assert found["read"] == 1.0
    assert all(found[stage] > 0 for stage in ("noise", "denoise", "score"))


def test_a_row_has_the_attempt_of_its_key_and_tells_where_its_image_is(tmp_path: Path) -> None:
    denoise = actor(tiny_model(tmp_path / "m"), noise={"sigma": [15, 25]})
    image = {"uri": "/in/a.tar", "settings": [0, 1]}
    good = blocks.picture_columns(Picture(photo(8, 8, 0)))
    rows = [
        image | {"image_id": "a.tar#x.png", "member": "x.png", "attempts": [1, 3]} | good,
        image | {"image_id": "b.parquet#7", "row": 7, "attempts": [2, 2], "stage": "read", "error": "gone"},
    ]  # fmt: skip
    packed = Block(BlockFile(0, 0, 4), pa.Table.from_pylist(rows, schema=blocks.DECODED_SCHEMA), {})
    found = [(row["uri"], row["status"], row["attempt"]) for row in rows_of(denoise(packed))]
    assert sorted(found) == [
        ("/in/a.tar#7", "error", 2), ("/in/a.tar#7", "error", 2),
        ("/in/a.tar#x.png", "ok", 1), ("/in/a.tar#x.png", "ok", 3),
    ]  # fmt: skip


def test_a_known_mean_is_taken_off() -> None:
    (row,) = rows_of(actor("embedded", noise={"sigma": 15, "mean": 40})(block(photo(96, 96, 0))))
    assert row["psnr_noisy"] < 16.5  # 40 grey levels off
    assert row["psnr"] > 25.0  # more than the noisy image has without the mean


# --- kinds of noise, and what was found


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
        np.testing.assert_array_equal(picture_of(denoised).pixels, blocks.picture_at(image.images, 0).pixels)


def test_an_image_without_a_level_to_be_found_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimator is a stand-in: which images have none is its own matter."""
    alphas = []

    def nothing(image: np.ndarray, alpha: np.ndarray | None = None) -> Found:
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
        {"image_id": str(number), "uri": "/x", "sigma": given, "settings": [0], "attempts": [1]}
        | {"stage": "read", "error": "gone"}
        for number, given in enumerate(["7", "x"])
    ]
    packed = Block(BlockFile(0, 0, 1), pa.Table.from_pylist(rows, schema=blocks.DECODED_SCHEMA), {})
    found = rows_of(actor(tiny_model(tmp_path / "m"), noise=None, denoise={"sigma": "std"})(packed))
    assert [(row["sigma"], row["stage"], row["error"]) for row in found] == [
        (7.0, "read", "gone"), (None, "read", "gone"),
    ]  # fmt: skip
