"""What an actor does with a block, without Ray: the three steps, and that one bad image never costs its neighbours."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from skimage.metrics import peak_signal_noise_ratio

from imagewizard import blocks, model_files, noise
from imagewizard.block_denoiser import BlockDenoiser
from imagewizard.job_config import ActorConfig, DenoiseConfig
from imagewizard.results import BlockFile
from imagewizard.schema import RESULT_SCHEMA
from tests.models import tiny_model
from tests.sample_files import photo


def actor(model: Path | str, **config: object) -> BlockDenoiser:
    job = DenoiseConfig.model_validate({"input": "in", "output": "out", "model": str(model), **config})
    fingerprint = model_files.find(job.model).fingerprint
    return BlockDenoiser(
        ActorConfig(
            "out", job.model, fingerprint, job.noise, job.denoise, job.images, job.seed, job.max_pixels, 4, threads=1
        )
    )


def block(*images: np.ndarray, sigmas: tuple[float | None, ...] = (25.0,)) -> pa.Table:
    rows = [
        {
            "image_id": str(number),
            "uri": f"/{number}",
            "sigmas": list(sigmas),
            "height": image.shape[0],
            "width": image.shape[1],
            "pixels": image.tobytes(),
        }
        for number, image in enumerate(images)
    ]
    return blocks.pack(BlockFile(0, 0, 1), pa.Table.from_pylist(rows, schema=blocks.DECODED_SCHEMA))


def rows_of(packed: pa.Table) -> list[dict]:
    _, table = blocks.unpack(packed)
    assert table.schema.equals(RESULT_SCHEMA)
    return table.to_pylist()


def test_a_network_that_sees_no_noise_returns_the_noisy_image(tmp_path: Path) -> None:
    """eps = 0 makes the estimate the noisy image itself: the steps around the network add nothing of their own."""
    clean = photo(24, 32, 0)
    (row,) = rows_of(actor(tiny_model(tmp_path / "zero", zero=True), seed=3)(block(clean)))
    noisy = noise.add_gaussian(clean, "0", 25.0, 0.0, 3)
    as_image = noisy.clip(0, 255).round().astype(np.uint8)
    assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(clean, as_image), abs=1e-6)
    assert row["psnr_noisy"] == pytest.approx(
        peak_signal_noise_ratio(clean.astype(float), noisy.astype(float), data_range=255), abs=1e-6
    )
    assert (row["width"], row["height"]) == (32, 24)


def test_sigma_zero_is_the_image_itself(tmp_path: Path) -> None:
    (row,) = rows_of(actor(tiny_model(tmp_path / "m"), noise={"sigma": 0})(block(photo(16, 16, 0), sigmas=(0.0,))))
    assert (row["psnr"], row["psnr_noisy"], row["ssim"], row["timestep"]) == (100.0, 100.0, 1.0, None)


def test_levels_and_sizes_are_mixed_in_one_block(tmp_path: Path) -> None:
    images = [photo(8, 8, 0), photo(5, 40, 1), photo(1, 1, 2)]
    found = rows_of(actor(tiny_model(tmp_path / "m"), noise={"sigma": [15, 50]})(block(*images, sigmas=(15.0, 50.0))))
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


def test_another_model_than_the_job_was_started_with_is_refused(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    job = DenoiseConfig.model_validate({"input": "in", "output": "out"})
    with pytest.raises(RuntimeError, match="is not the same"):
        BlockDenoiser(ActorConfig("out", str(folder), "0" * 16, job.noise, job.denoise, None, 0, 10**6, 1, 1))


def test_a_given_level_is_used_as_it_is_and_the_image_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    restore = actor(tiny_model(tmp_path / "m"), noise=None, denoise={"sigma": 12})
    (row,) = rows_of(restore(block(photo(16, 16, 0), sigmas=(12.0,))))
    assert (row["sigma"], row["sigma_estimated"], row["psnr"], row["noise_kind"]) == (12.0, None, None, None)
    assert Path(row["output_uri"]) == Path("out/images/0.png")
    assert Path(row["output_uri"]).is_file()


def test_an_image_that_the_format_cannot_hold_is_a_write_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    writer = actor(tiny_model(tmp_path / "m"), images={"format": "webp"})
    found = rows_of(writer(block(photo(16_400, 1, 0), photo(8, 8, 1))))
    assert [(row["status"], row["stage"]) for row in found] == [("error", "write"), ("ok", None)]


def test_a_known_mean_is_taken_off() -> None:
    (row,) = rows_of(actor("embedded", noise={"sigma": 15, "mean": 40})(block(photo(96, 96, 0), sigmas=(15.0,))))
    assert row["psnr_noisy"] < 16.5  # 40 grey levels off
    assert row["psnr"] > 26.0
