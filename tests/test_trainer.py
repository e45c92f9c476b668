"""Training a tiny network on a few generated images: it learns, resumes to the bit, and stops with one clear line."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import pixel_shuffle

from imagewizard import model, model_files, trainer, training_data
from imagewizard.errors import UserError
from imagewizard.train_config import OptimizerSection, TrainConfig
from imagewizard.trainer import Trainer, eps_loss, latest_checkpoint, learning_rate, validate
from tests.models import tiny_network, tiny_unet

CPU = torch.device("cpu")


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth colours around mid-grey, far enough from 0 and 255 for noise not to be cut off."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 40
    waves = [np.sin(2 * math.pi * (rng.uniform(-1, 1) * x + rng.uniform(-1, 1) * y + rng.uniform())) for _ in range(3)]
    return (127.5 + 20 * np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def _on_the_cpu() -> Iterator[None]:
    """Where the same steps give the same bits; a GPU adds up in an order of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ with four images and a broken file, validation/ with two of odd sizes."""
    folder = tmp_path_factory.mktemp("photos")
    for name, sizes in {"train": [(40, 48), (24, 60), (12, 30), (33, 33)], "validation": [(33, 41), (50, 27)]}.items():
        (folder / name).mkdir()
        for i, (height, width) in enumerate(sizes):
            Image.fromarray(picture(height, width, seed=10 * len(name) + i)).save(folder / name / f"{i}.png")
    (folder / "train" / "broken.png").write_bytes(b"\x89PNG")
    return folder


def config(photos: Path, output: Path, **changes: Any) -> TrainConfig:
    """A run of ten steps; `changes` are top-level keys, those of sections on top of what stands here."""
    data: dict[str, Any] = {
        "output": str(output),
        "data": {"train": str(photos / "train"), "validation": str(photos / "validation"), "crop": 16},
        "sigma": [20.0, 60.0],
        "network": tiny_network(),
        "optimizer": {"steps": 10, "batch_size": 4, "learning_rate": 3e-3, "warmup_steps": 2, "ema_decay": 0.9},
        "checkpoint_every": 5,
    }
    for key, value in changes.items():
        data[key] = data[key] | value if key in ("data", "optimizer") else value
    return TrainConfig.model_validate(data)


def losses(run: Trainer, steps: int) -> list[float]:
    images, _ = training_data.load_folder(run.config.data.train)
    options = run.config
    stream = training_data.batches(
        images, options.seed, options.optimizer.batch_size, options.data.crop, options.sigma, run.step
    )
    return [run.train_step(next(stream)) for _ in range(steps)]


def state(output: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(output / "checkpoints" / f"step-{step:08d}" / "state.safetensors")


def metrics(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished run of ten steps with its summary, to look at and to copy but not to change."""
    output = tmp_path_factory.mktemp("runs") / "finished"
    return output, trainer.train(config(photos, output))


# --- learning rate and loss


def test_learning_rate_rises_linearly_and_falls_as_a_cosine_to_zero() -> None:
    section = OptimizerSection(steps=110, warmup_steps=10, learning_rate=0.5)
    rates = [learning_rate(step, section) for step in range(111)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) * 0.05)
    assert rates[10] == 0.5
    quarters = [0.25 + 0.25 * math.sqrt(0.5), 0.25, 0.25 - 0.25 * math.sqrt(0.5)]
    np.testing.assert_allclose([rates[35], rates[60], rates[85]], quarters)
    assert rates[110] == pytest.approx(0.0, abs=1e-12)
    assert (np.diff(rates[10:]) < 0).all()


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (5, 100), (5, 5)])
def test_learning_rate_of_very_short_runs(steps: int, warmup: int) -> None:
    section = OptimizerSection(steps=steps, warmup_steps=warmup, learning_rate=1.0)
    assert all(0 < learning_rate(step, section) <= 1 for step in range(steps))


@pytest.mark.parametrize("k", [1, 2])
def test_loss_is_the_error_of_eps_at_each_images_own_level(k: int) -> None:
    unet, sigmas = tiny_unet(k), np.array([10.0, 55.5])
    schedule = Trainer(config(Path(), Path()), CPU).schedule
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    noise = rng.standard_normal((2, 16, 16, 3), dtype=np.float32)

    seen: list[Any] = []
    unet.register_forward_hook(lambda module, inputs, output: seen.extend([*inputs, output[0]]))
    loss = eps_loss(unet, schedule, training_data.TrainingBatch(clean, noise, sigmas), CPU)

    x0 = torch.from_numpy(clean).permute(0, 3, 1, 2) / 127.5 - 1
    eps = torch.from_numpy(noise).permute(0, 3, 1, 2)
    s = torch.tensor(2 * sigmas / 255, dtype=torch.float32).view(2, 1, 1, 1)
    x_t = (x0 + s * eps) / (1 + s**2).sqrt()  # the noisy image, scaled by sqrt(abar)
    torch.testing.assert_close(pixel_shuffle(seen[0], k), x_t, rtol=1e-5, atol=1e-5)
    assert seen[1].tolist() == pytest.approx([schedule.timestep(sigma) for sigma in sigmas])
    torch.testing.assert_close(loss, (pixel_shuffle(seen[2].float(), k) - eps).square().mean())


def test_loss_falls(photos: Path, tmp_path: Path) -> None:
    run = Trainer(config(photos, tmp_path, optimizer={"steps": 60, "learning_rate": 1e-2}), CPU)
    seen = losses(run, 60)
    assert run.step == 60
    assert np.mean(seen[-10:]) < 0.5 * np.mean(seen[:3])
    assert 0.5 < seen[0] < 2  # a random network predicts nothing of eps, whose variance is 1


def test_average_follows_the_weights(photos: Path, tmp_path: Path) -> None:
    run = Trainer(config(photos, tmp_path, optimizer={"ema_decay": 0.2}), CPU)
    expected = {name: p.detach().clone() for name, p in run.unet.named_parameters()}
    for step in range(1, 6):
        losses(run, 1)
        decay = min(0.2, step / (step + 10))
        expected = {name: decay * expected[name] + (1 - decay) * p.detach() for name, p in run.unet.named_parameters()}
    averaged = run.averaged_unet()
    assert not averaged.training
    for name, parameter in averaged.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-5, atol=1e-6)


# --- validation


def test_network_that_finds_no_noise_scores_as_the_noisy_image() -> None:
    schedule = Trainer(config(Path(), Path()), CPU).schedule
    images = {str(i): picture(65, 50 + i, seed=i) for i in range(4)}
    scores = validate(tiny_unet(zero=True), schedule, images, seed=0)
    assert set(scores) == {"psnr_15", "psnr_25", "psnr_50"}
    # 20*log10(255/sigma), where clamping to 0-255 cuts nothing off (hardly anything at 50).
    assert scores["psnr_15"] == pytest.approx(24.61, abs=0.1)
    assert scores["psnr_25"] == pytest.approx(20.17, abs=0.1)
    assert scores["psnr_50"] == pytest.approx(14.15, abs=0.3)


def test_validation_noise_is_the_same_every_time() -> None:
    schedule = Trainer(config(Path(), Path()), CPU).schedule
    images = {"a": picture(40, 33, seed=0)}
    scores = validate(tiny_unet(), schedule, images, seed=0)
    assert validate(tiny_unet(), schedule, images, seed=0) == scores
    assert validate(tiny_unet(), schedule, images, seed=1) != scores


# --- a run


def test_finished_run_has_what_it_should(finished: tuple[Path, dict], photos: Path) -> None:
    output, summary = finished
    assert summary["steps"] == 10 and summary["steps_timed"] == 10
    assert summary["images"] == 4 and summary["broken_images"] == ["broken.png"]
    assert set(summary["validation"]) == {"psnr_15", "psnr_25", "psnr_50"}
    assert json.loads((output / "summary.json").read_text()) == summary
    assert sorted(p.name for p in (output / "checkpoints").iterdir()) == ["step-00000005", "step-00000010"]
    rows = metrics(output)
    assert [row["step"] for row in rows if "psnr_25" in row] == [5, 10]
    assert rows[-1] == {"step": 10} | summary["validation"]
    assert all(math.isfinite(row["loss"]) for row in rows if "loss" in row)


def test_exported_model_is_the_average_and_denoises(finished: tuple[Path, dict]) -> None:
    output, _ = finished
    unet, schedule = model.load(model_files.find(str(output / "model")))
    tensors = state(output, 10)
    for name, parameter in unet.named_parameters():
        torch.testing.assert_close(parameter, tensors[f"ema.{name}"].half().float(), rtol=0, atol=0)
    assert any(not torch.equal(tensors[f"ema.{n}"], tensors[f"unet.{n}"]) for n, _ in unet.named_parameters())
    assert schedule.timestep(25) == pytest.approx(56, abs=0.5)


def test_finished_run_is_not_touched_again(finished: tuple[Path, dict], photos: Path, tmp_path: Path) -> None:
    output, summary = finished
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    gone = tmp_path / "photos that are gone"
    assert trainer.train(config(gone, output)) == summary
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def interrupted(finished: Path, output: Path, step: int) -> None:
    """`output` as a run that was killed at some time after its checkpoint at `step`."""
    name = f"step-{step:08d}"
    shutil.copytree(finished / "checkpoints" / name, output / "checkpoints" / name)


def test_killed_run_goes_on_to_the_same_weights(finished: tuple[Path, dict], photos: Path, tmp_path: Path) -> None:
    output, summary = finished
    interrupted(output, tmp_path, 5)
    resumed = trainer.train(config(photos, tmp_path))
    assert resumed["steps"] == 10 and resumed["steps_timed"] == 5
    expected, found = state(output, 10), state(tmp_path, 10)
    assert found.keys() == expected.keys() and len(found) == 4 * len(dict(tiny_unet().named_parameters()))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)
    assert not all(torch.equal(tensor, state(output, 5)[name]) for name, tensor in expected.items())
    assert resumed["validation"] == summary["validation"]


def test_half_written_checkpoint_is_ignored(finished: tuple[Path, dict], photos: Path, tmp_path: Path) -> None:
    output, summary = finished
    interrupted(output, tmp_path, 5)
    partial = tmp_path / "checkpoints" / "step-00000010.partial"
    partial.mkdir()
    (partial / "state.safetensors").write_bytes(b"half")
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-00000005"
    assert trainer.train(config(photos, tmp_path))["validation"] == summary["validation"]
    assert not partial.exists()


def test_run_killed_before_its_summary_writes_it_without_training(
    finished: tuple[Path, dict], photos: Path, tmp_path: Path
) -> None:
    output, summary = finished
    interrupted(output, tmp_path, 10)
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "model.partial" / "config.json").write_text("{")
    again = trainer.train(config(photos, tmp_path))
    assert again["steps_timed"] == 0
    assert again["validation"] == summary["validation"]
    files = [model_files.find(str(folder / "model")) for folder in (output, tmp_path)]
    assert files[0].fingerprint == files[1].fingerprint
    assert not (tmp_path / "model.partial").exists()


def test_metrics_after_the_checkpoint_are_not_kept_twice(
    finished: tuple[Path, dict], photos: Path, tmp_path: Path
) -> None:
    output, _ = finished
    interrupted(output, tmp_path, 5)
    rows = [{"step": 3, "loss": 0.5}, {"step": 5, "psnr_25": 20.0}, {"step": 8, "loss": 0.4}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 5, "psn')
    trainer.train(config(photos, tmp_path))
    found = metrics(tmp_path)
    assert found[:2] == rows[:2]
    assert rows[2] not in found
    assert [row["step"] for row in found if "psnr_25" in row] == [5, 10]


def test_checkpoint_takes_the_place_of_an_older_one(photos: Path, tmp_path: Path) -> None:
    run = Trainer(config(photos, tmp_path), CPU)
    losses(run, 1)
    folder = tmp_path / "checkpoints" / "step-00000001"
    run.save(folder)
    (folder / "left over").touch()
    run.save(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["state.json", "state.safetensors"]
    assert list(folder.parent.iterdir()) == [folder]


# --- what cannot be trained


def line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_loss_that_is_not_finite_stops_the_run(photos: Path, tmp_path: Path) -> None:
    job = config(photos, tmp_path, optimizer={"learning_rate": 1e30, "warmup_steps": 0}, checkpoint_every=1)
    with pytest.raises(UserError) as error:
        trainer.train(job)
    assert line(error).startswith("optimizer.learning_rate: at step 1 the loss is nan")
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-00000001"
    assert all(torch.isfinite(tensor).all() for tensor in state(tmp_path, 1).values())
    assert not (tmp_path / "summary.json").exists() and not (tmp_path / "model").exists()


def test_gradient_that_is_not_finite_updates_nothing(photos: Path, tmp_path: Path) -> None:
    run = Trainer(config(photos, tmp_path), CPU)
    before = {name: tensor.clone() for name, tensor in run.unet.state_dict().items()}
    # A square root at zero: the loss is as before, its gradient is infinite.
    run.unet.conv_out.register_forward_hook(lambda module, inputs, output: output + (output * 0).abs().sqrt())
    with pytest.raises(UserError) as error:
        losses(run, 1)
    assert line(error).startswith("optimizer.learning_rate: at step 0 the loss is ")
    assert run.step == 0
    for name, tensor in run.unet.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    "network", [tiny_network(block_out_channels=[8, 8]), tiny_network(2), tiny_network(add_attention=True)], ids=str
)
def test_checkpoint_of_another_network_is_refused(
    finished: tuple[Path, dict], photos: Path, tmp_path: Path, network: dict
) -> None:
    interrupted(finished[0], tmp_path, 5)
    with pytest.raises(UserError) as error:
        trainer.train(config(photos, tmp_path, network=network))
    assert line(error).startswith("network: ") and str(tmp_path) in line(error)


def test_checkpoint_with_more_than_the_network_is_refused(photos: Path, tmp_path: Path) -> None:
    larger = Trainer(config(photos, tmp_path, network=tiny_network(add_attention=True)), CPU)
    losses(larger, 1)
    larger.save(tmp_path / "checkpoints" / "step-00000001")
    with pytest.raises(UserError, match=r"^network: .* another architecture"):
        trainer.train(config(photos, tmp_path))


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"network": tiny_network(4), "data": {"crop": 24}}, None),
        ({"network": tiny_network(8), "data": {"crop": 24}}, "data.crop: "),
        ({"sigma": [2.0, 30_000.0]}, "sigma: "),
        ({"schedule": {"num_train_timesteps": 10}}, "sigma: "),  # ends at 41
        ({"schedule": {"num_train_timesteps": 10}, "sigma": [2.0, 30.0]}, "sigma: "),  # validation is at 50
        ({"network": tiny_network(norm_num_groups=5)}, "model: UNet2DModel refuses its config: "),
        ({"network": tiny_network(nonesuch=1)}, "model: UNet2DModel refuses its config: "),
        ({"network": tiny_network(time_embedding_type="fourier")}, "model: time_embedding_type"),
    ],
)
def test_configs_that_cannot_be_trained(photos: Path, tmp_path: Path, changes: dict, start: str | None) -> None:
    job = config(photos, tmp_path / "run", **changes)
    if start is None:
        losses(Trainer(job, CPU), 1)
        return
    with pytest.raises(UserError) as error:
        trainer.train(job)
    assert line(error).startswith(start)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("missing", ["train", "validation"])
def test_folders_without_images_are_refused_before_anything_is_written(
    photos: Path, tmp_path: Path, missing: str
) -> None:
    (tmp_path / "empty").mkdir()
    job = config(photos, tmp_path / "run", data={missing: str(tmp_path / "empty")})
    with pytest.raises(UserError) as error:
        trainer.train(job)
    assert line(error).startswith(f"data: {tmp_path}/empty ")
    assert not (tmp_path / "run").exists()
