"""Networks are saved, loaded and counted; test_files.py covers the checks without loading."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from imagewizard.diffusion.architecture import size_multiple
from imagewizard.diffusion.sampling import posterior_mean, predict
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.errors import UserError
from imagewizard.models import files as model_files
from imagewizard.models import network
from tests.support.models import (
    CELEBAHQ_NETWORK,
    CELEBAHQ_SCHEDULER,
    LINEAR,
    published_form,
    refusal,
    tiny_model,
    tiny_unet,
)

WEIGHTS = "diffusion_pytorch_model.safetensors"
PICKLED = "diffusion_pytorch_model.bin"
ATTENTION = {"down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]}


# --- saving and loading


@pytest.mark.parametrize("k", [1, 2])
def test_saved_folder_is_found_and_loaded(tmp_path: Path, k: int) -> None:
    unet = tiny_unet(k)
    schedule = LINEAR | {"clip_sample": False, "num_train_timesteps": 900}
    network.save(unet, dict(unet.named_parameters()), schedule, tmp_path / "new" / "model")
    loaded, noise_schedule = network.load(model_files.find(str(tmp_path / "new" / "model")))

    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert {name: p.dtype for name, p in loaded.named_parameters()} == dict.fromkeys(unet.state_dict(), torch.float32)
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, unet.state_dict()[name].half().float(), rtol=0, atol=0)
    np.testing.assert_allclose(noise_schedule.alphas_cumprod, DDIMScheduler(**schedule).alphas_cumprod, rtol=2e-5)
    assert noise_schedule.clip is None


@torch.inference_mode()
def test_diffusers_reads_a_saved_model(tmp_path: Path) -> None:
    unet = tiny_unet(2)
    weights = {name: tensor + 0.125 for name, tensor in unet.named_parameters()}
    network.save(unet, weights, LINEAR, tmp_path)
    theirs = UNet2DModel.from_pretrained(tmp_path)
    scheduler = DDIMScheduler.from_pretrained(tmp_path)
    ours, schedule = network.load(model_files.find(str(tmp_path)))
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(predict(theirs, x, torch.tensor([40.5])), predict(ours, x, torch.tensor([40.5])))
    for name, parameter in theirs.named_parameters():  # the passed weights, not the network's own
        torch.testing.assert_close(parameter, weights[name].half().float(), rtol=0, atol=0)
    np.testing.assert_allclose(scheduler.alphas_cumprod, schedule.alphas_cumprod, rtol=2e-5)


@pytest.mark.parametrize("nested", [False, True])
def test_models_saved_by_diffusers_are_read(tmp_path: Path, nested: bool) -> None:
    folder = tiny_model(tmp_path / "a model", nested=nested)
    files = model_files.find(str(folder))
    files.check(max_sigma=100)
    unet, schedule = network.load(files)
    for name, tensor in tiny_unet().state_dict().items():
        torch.testing.assert_close(unet.state_dict()[name], tensor, rtol=0, atol=0)
    assert schedule.timestep(25) == pytest.approx(56, abs=0.5)


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path)
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS)
    unet, _ = network.load(model_files.find(str(folder)))
    assert {p.dtype for p in unet.parameters()} == {torch.float32}


@pytest.mark.parametrize("fields", [CELEBAHQ_SCHEDULER, {"clip_sample": False, "num_train_timesteps": 900}])
def test_any_ddpms_scheduler_is_saved(tmp_path: Path, fields: dict) -> None:
    network.save(tiny_unet(), tiny_unet().state_dict(), LINEAR | fields, tmp_path)
    written = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert written["_class_name"] == "DDIMScheduler"
    assert all(written[key] == value for key, value in fields.items() if key[0] != "_")
    DDIMScheduler.from_pretrained(tmp_path)
    model_files.find(str(tmp_path)).check(max_sigma=50)


# --- weights in older formats


def pickled_model(folder: Path, **changes: object) -> Path:
    """A model folder whose only weights are a pickle."""
    weights = tiny_model(folder, **changes) / WEIGHTS  # type: ignore[arg-type]
    torch.save(load_file(weights), folder / PICKLED)
    weights.unlink()
    return folder


def test_pickled_weights_are_read_if_there_are_no_others(tmp_path: Path) -> None:
    files = model_files.find(str(pickled_model(tmp_path)))
    files.check(max_sigma=50)
    assert files.weights.name == PICKLED and len(files.fingerprint) == 16
    unet, _ = network.load(files)
    for name, tensor in tiny_unet().state_dict().items():
        torch.testing.assert_close(unet.state_dict()[name], tensor, rtol=0, atol=0)
    tiny_model(tmp_path, seed=1)
    assert model_files.find(str(tmp_path)).weights.name == WEIGHTS


class Code:
    """A malicious pickle's content: it runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    folder = pickled_model(tmp_path / "model")
    torch.save({"conv_in.weight": Code(tmp_path / "ran")}, folder / PICKLED)
    refusal(folder, folder / PICKLED)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"\xff" * 1000, b"version https://git-lfs.github.com/spec/v1\n"])
def test_files_other_than_pickles(tmp_path: Path, content: bytes) -> None:
    path = pickled_model(tmp_path) / PICKLED
    path.write_bytes(content)
    refusal(tmp_path, path)
    with pytest.raises(UserError, match=f"^model: {path} is no whole file of torch.save"):
        model_files.find(str(tmp_path)).check(max_sigma=25)


def test_truncated_pickle(tmp_path: Path) -> None:
    path = pickled_model(tmp_path) / PICKLED
    path.write_bytes(path.read_bytes()[:-1000])
    refusal(tmp_path, path)
    with pytest.raises(UserError, match=f"^model: {path} is no whole file of torch.save"):
        model_files.find(str(tmp_path)).check(max_sigma=25)


@pytest.mark.parametrize("content", [[1, 2], {"conv_in.weight": 1}, 3], ids=str)
def test_pickles_of_other_things(tmp_path: Path, content: object) -> None:
    torch.save(content, pickled_model(tmp_path) / PICKLED)
    refusal(tmp_path, tmp_path / PICKLED)


@torch.inference_mode()
def test_attentions_old_names(tmp_path: Path) -> None:
    """The DDPM authors' models use them; the result must match diffusers."""
    folder = tiny_model(tmp_path, attention_head_dim=None, add_attention=True, **ATTENTION)
    weights = published_form(load_file(folder / WEIGHTS))
    assert {"down_blocks.1.attentions.0.query.bias", "mid_block.attentions.0.proj_attn.weight"} <= weights.keys()
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    ours, _ = network.load(model_files.find(str(folder)))
    x = torch.rand(1, 3, 16, 16)
    expected = predict(UNet2DModel.from_pretrained(folder).eval(), x, torch.tensor([40.5]))
    torch.testing.assert_close(predict(ours, x, torch.tensor([40.5])), expected)


def test_the_published_celebahq_model(tmp_path: Path) -> None:
    """google/ddpm-celebahq-256 as `hf download` leaves it, but with random weights: it denoises and learns."""
    weights = published_form(network.build_unet(CELEBAHQ_NETWORK).state_dict())
    torch.save(weights, tmp_path / PICKLED)
    assert sum(tensor.numel() for tensor in weights.values()) == 113_673_219
    assert (tmp_path / PICKLED).stat().st_size == pytest.approx(4 * 113_673_219, rel=0.001)
    del weights
    (tmp_path / "config.json").write_text(json.dumps(CELEBAHQ_NETWORK))
    (tmp_path / "scheduler_config.json").write_text(json.dumps(CELEBAHQ_SCHEDULER))
    files = model_files.find(str(tmp_path))
    files.check(max_sigma=60)
    unet, schedule = network.load(files)
    assert size_multiple(unet.config) == 32 and schedule.timestep(25) == pytest.approx(56, abs=0.5)
    noisy = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        denoised = posterior_mean(unet, schedule, noisy, [25.0])
    assert denoised.shape == noisy.shape and torch.isfinite(denoised).all()
    unet.train().requires_grad_(True)
    predict(unet, noisy[:, :, :32, :32], torch.tensor([56.0])).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in unet.parameters())


# --- cost of a forward pass


def test_cost_is_that_of_a_real_forward() -> None:
    unet, _ = network.load(model_files.find("embedded"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        predict(unet, torch.zeros(1, 3, 256, 256), torch.zeros(1))
    assert network.gflop_per_megapixel(unet) == pytest.approx(counter.get_total_flops() / 1e9 / 0.065536)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_cost_by_hand(k: int) -> None:
    """All of one resolution: two convolutions in, mid and out blocks; counted layer by layer from the weights."""
    unet = tiny_unet(k, block_out_channels=[8], down_block_types=["DownBlock2D"], up_block_types=["UpBlock2D"])
    convolutions = [m for m in unet.modules() if isinstance(m, torch.nn.Conv2d)]
    side = -(-256 // k) * k
    per_pixel = sum(2 * m.weight.numel() for m in convolutions) / k**2
    linear = sum(2 * m.weight.numel() for m in unet.modules() if isinstance(m, torch.nn.Linear))
    assert network.gflop_per_megapixel(unet) == pytest.approx(per_pixel / 1e3 + linear / side**2 / 1e3, rel=1e-6)
