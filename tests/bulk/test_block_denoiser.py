"""What an actor does with a block, without Ray: the three steps, and that one bad image never costs its neighbours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage.metrics import peak_signal_noise_ratio

from imagewizard.bulk import block as blocks
from imagewizard.bulk import block_denoiser, memory
from imagewizard.bulk.block import Block
from imagewizard.bulk.block_denoiser import BlockDenoiser
from imagewizard.bulk.block_reader import BlockReader
from imagewizard.bulk.groups import Group
from imagewizard.config.denoise import ActorConfig, DenoiseConfig
from imagewizard.images.metadata import Metadata
from imagewizard.images.picture import Picture
from imagewizard.models import files as model_files
from imagewizard.noise import synthetic
from imagewizard.runs.results import BlockFile
from tests.support.actors import actor, block, picture_of, pictures, rows_of
from tests.support.models import tiny_model
from tests.support.sample_files import photo
from tests.support.sample_metadata import everything


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
    name = {"noise": "find_levels"}.get(stage, stage)
    real = getattr(denoiser, name)

    def short_of_memory(group: Group, *rest: Any) -> Any:
        if any(sample.image_id == "1" for sample in group.samples):
            raise MemoryError("no room")
        return real(group, *rest)

    monkeypatch.setattr(denoiser, name, short_of_memory)
    found = rows_of(denoiser(block(photo(8, 8, 0), photo(8, 8, 1), photo(8, 8, 2))))
    assert [(row["image_id"], row["stage"], row["error"]) for row in found] == [
        ("0", None, None), ("1", stage, "no room"), ("2", None, None),
    ]  # fmt: skip
    assert [row["encoded"] is None for row in found] == [False, True, False]
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
    """eps = 0: what comes out is what went in, to the last of its bits; alpha and texts pass by."""
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, top, (12, 10, channels), dtype, endpoint=True)
    alpha = np.random.default_rng(1).integers(0, top, (12, 10), dtype, endpoint=True)
    restore = actor(tiny_model(tmp_path / "zero", zero=True), noise=None, denoise={"sigma": 12})
    found = picture_of(restore(pictures(Picture(pixels, alpha, Metadata(texts=everything().texts)))))
    assert found.pixels.dtype == dtype and found.pixels.shape == pixels.shape
    assert np.abs(found.pixels.astype(int) - pixels).max() <= (0 if dtype == np.uint8 else 1)  # float32 has 24 bits
    np.testing.assert_array_equal(found.alpha, alpha)
    assert found.metadata.texts == everything().texts


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
    assert row["encoded"] is None


def test_an_image_that_the_format_cannot_hold_is_a_write_error(tmp_path: Path) -> None:
    writer = actor(tiny_model(tmp_path / "m"), images={"format": "webp"})
    found = rows_of(writer(block(photo(4, 4, 0), photo(16_400, 1, 0), photo(8, 8, 1))))
    assert [(row["status"], row["stage"]) for row in found] == [("ok", None), ("error", "write"), ("ok", None)]


def test_the_time_of_each_step_is_told(tmp_path: Path) -> None:
    found = actor(tiny_model(tmp_path / "m"))(block(photo(16, 16, 0))).times
    assert found.wall["read"] == 1.0
    assert all(times[stage] > 0 for times in (found.wall, found.cpu) for stage in ("noise", "denoise", "score"))


def test_a_row_has_the_attempt_of_its_key_and_tells_where_its_image_is(tmp_path: Path) -> None:
    denoise = actor(tiny_model(tmp_path / "m"), noise={"sigma": [15, 25]})
    image = dict.fromkeys(blocks.WORK_SCHEMA.names) | {"uri": "/in/a.tar", "settings": [0, 1]}
    good = {"picture": Picture(photo(8, 8, 0)), "stage": None, "error": None}
    rows = [
        image | {"image_id": "a.tar#x.png", "member": "x.png", "attempts": [1, 3]} | good,
        image | {"image_id": "b.parquet#7", "row": 7, "attempts": [2, 2], "stage": "read", "error": "gone"},
    ]  # fmt: skip
    found = [(row["uri"], row["status"], row["attempt"]) for row in rows_of(denoise(Block(BlockFile(0, 0, 4), rows)))]
    assert sorted(found) == [
        ("/in/a.tar#7", "error", 2), ("/in/a.tar#7", "error", 2),
        ("/in/a.tar#x.png", "ok", 1), ("/in/a.tar#x.png", "ok", 3),
    ]  # fmt: skip


def test_a_known_mean_is_taken_off() -> None:
    (row,) = rows_of(actor("embedded", noise={"sigma": 15, "mean": 40})(block(photo(96, 96, 0))))
    assert row["psnr_noisy"] < 16.5  # 40 grey levels off
    assert row["psnr"] > 25.0  # more than the noisy image has without the mean


def test_an_image_that_the_machine_has_no_room_for_is_an_error_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large one that has room goes through the steps alone, with the others' rows."""
    monkeypatch.setattr(blocks, "LARGE_PIXELS", 200)
    monkeypatch.setattr(memory, "IMAGE_COPIES", memory.PART_BYTES // 500)  # bytes a pixel: 500 pixels fill a part
    names = ["0.png", "1.png", "2.png"]
    for name, side in zip(names, (10, 20, 40), strict=True):
        Image.fromarray(photo(side, side, 0)).save(tmp_path / name)
    empty = dict.fromkeys(blocks.WORK_SCHEMA.names) | {"settings": [0, 1], "attempts": [1, 1]}
    work = [empty | {"image_id": name, "uri": f"{tmp_path}/{name}"} for name in names]
    monkeypatch.setattr(block_denoiser, "machine_bytes", lambda: int(2.5 * memory.PART_BYTES))  # two parts
    denoise = actor(tiny_model(tmp_path / "m", k=2), noise={"sigma": [15, 25]})
    block = Block(BlockFile(0, 0, 1), work)
    read = BlockReader(10**6, keep=False)(block)
    found = [(row["image_id"], row["sigma"], row["status"], row["stage"]) for row in rows_of(denoise(read))]
    ok = [(name, sigma, "ok", None) for name in names[:2] for sigma in (15.0, 25.0)]
    assert found == [*ok, *(("2.png", sigma, "error", "decode") for sigma in (15.0, 25.0))]
