"""Checks of a model folder without torch: its files, its fingerprint, and refusals."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from imagewizard.errors import UserError
from imagewizard.models import files as model_files
from imagewizard.models import network
from tests.support.models import LINEAR, refusal, tiny_model, tiny_network

WEIGHTS = "diffusion_pytorch_model.safetensors"


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- the fingerprint


def test_fingerprint_depends_on_content_alone(tmp_path: Path) -> None:
    root = model_files.find(str(tiny_model(tmp_path / "root")))
    assert len(root.fingerprint) == 16 and int(root.fingerprint, 16) >= 0
    assert model_files.find(str(tiny_model(tmp_path / "nested", nested=True))).fingerprint == root.fingerprint
    moved = model_files.find(str(shutil.copytree(tmp_path / "root", tmp_path / "elsewhere" / "copy")))
    for path in (moved.config, moved.scheduler):
        turned = dict(reversed(json.loads(path.read_text()).items()))
        # diffusers adds these keys; origin and writer of a file do not change what the model computes.
        turned |= {"_diffusers_version": "0.1.0", "_name_or_path": "/somewhere/else"}
        path.write_text(json.dumps(turned, indent=7))
    assert moved.fingerprint == root.fingerprint


@pytest.mark.parametrize("change", ["weights", "config", "scheduler"])
def test_fingerprint_changes_with_each_file(tmp_path: Path, change: str) -> None:
    files = model_files.find(str(tiny_model(tmp_path)))
    before = files.fingerprint
    if change == "weights":
        weights = load_file(files.weights)
        weights["conv_out.bias"][0] += 1e-6
        save_file(weights, files.weights)
    elif change == "config":
        edit_json(files.config, center_input_sample=True)
    else:
        edit_json(files.scheduler, beta_end=0.0201)
    assert files.fingerprint != before


# --- refused folders


def test_missing_folder(tmp_path: Path) -> None:
    assert "embedded" in refusal(tmp_path / "none", tmp_path / "none")
    (tmp_path / "file").touch()
    refusal(tmp_path / "file", tmp_path / "file")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "scheduler_config.json"])
def test_missing_file(tmp_path: Path, name: str, nested: bool) -> None:
    folder = tiny_model(tmp_path, nested=nested)
    next(folder.rglob(name)).unlink()
    assert name in refusal(folder, tmp_path)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.ckpt", "diffusion_pytorch_model.msgpack", "a.safetensors"]
)
def test_weights_with_other_names_are_not_read(tmp_path: Path, name: str) -> None:
    folder = tiny_model(tmp_path)
    (folder / WEIGHTS).rename(folder / name)
    assert name in refusal(folder, WEIGHTS)


@pytest.mark.parametrize("kept", [0, 7, 100, 5000, -1])
def test_truncated_weights(tmp_path: Path, kept: int) -> None:
    weights = tiny_model(tmp_path) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:kept])
    refusal(tmp_path, weights)
    with pytest.raises(UserError, match=f"^model: {weights} is"):
        model_files.find(str(tmp_path)).check(max_sigma=25)


@pytest.mark.parametrize("content", [b"\xff" * 1000, b"version https://git-lfs.github.com/spec/v1\n", b"{}" * 500])
def test_weights_with_other_content(tmp_path: Path, content: bytes) -> None:
    weights = tiny_model(tmp_path) / WEIGHTS
    weights.write_bytes(content)
    refusal(tmp_path, weights)
    with pytest.raises(UserError, match=f"^model: {weights} is no whole safetensors file"):
        model_files.find(str(tmp_path)).check(max_sigma=25)


@pytest.mark.parametrize(
    "other", [{"block_out_channels": [16, 16]}, {"layers_per_block": 2}, {"add_attention": True}], ids=str
)
def test_weights_of_another_architecture(tmp_path: Path, other: dict) -> None:
    weights = tiny_model(tmp_path / "model") / WEIGHTS
    shutil.copy(tiny_model(tmp_path / "other", **other) / WEIGHTS, weights)
    refusal(tmp_path / "model", weights)


@pytest.mark.parametrize("name", ["config.json", "scheduler_config.json"])
@pytest.mark.parametrize("content", [b"", b'{"in_channels": 3', b"[1, 2]", b'"text"', b"null", b"\xff\xfe"])
def test_bad_json(tmp_path: Path, name: str, content: bytes) -> None:
    path = tiny_model(tmp_path) / name
    path.write_bytes(content)
    refusal(tmp_path, path)
    with pytest.raises(UserError, match=f"^model: {path} "):
        model_files.find(str(tmp_path)).check(max_sigma=25)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"in_channels": 3, "out_channels": 6}, "3 to 6 channels"),
        ({"in_channels": 1, "out_channels": 1}, "1 to 1 channels"),
        ({"in_channels": 6, "out_channels": 6}, "6 to 6 channels"),
        ({"in_channels": [3], "out_channels": [3]}, "channels"),
        ({"time_embedding_type": "fourier"}, "fourier"),
        ({"num_class_embeds": 10}, "class labels"),
        ({"class_embed_type": "timestep"}, "class labels"),
    ],
)
def test_networks_other_than_image_ddpms_are_refused(tmp_path: Path, changes: dict, reason: str) -> None:
    edit_json(tiny_model(tmp_path) / "config.json", **changes)
    assert reason in refusal(tmp_path, "")
    with pytest.raises(UserError, match=reason):  # the driver detects it too, without loading the network
        model_files.find(str(tmp_path)).check(max_sigma=25)


@pytest.mark.parametrize(
    "changes",
    [
        {"nonesuch": 1},
        {"norm_num_groups": 5},
        {"norm_num_groups": 0},
        {"down_block_types": ["Nonesuch", "DownBlock2D"]},
        {"block_out_channels": [8]},
        {"block_out_channels": 8},
        {"block_out_channels": [-8, 8]},
        {"act_fn": "nonesuch"},
        {"time_embedding_type": "nonesuch"},
        {"time_embedding_type": "learned"},  # without a number of steps
        {"layers_per_block": "two"},
    ],
    ids=str,
)
def test_configs_that_diffusers_refuses(changes: dict) -> None:
    with pytest.raises(UserError, match=r"^model: UNet2DModel refuses its config: [^\n]+$"):
        network.build_unet(tiny_network(**changes))


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_networks_that_predict_v_or_x0_are_loaded(tmp_path: Path, prediction: str) -> None:
    files = model_files.find(str(tiny_model(tmp_path, schedule=LINEAR | {"prediction_type": prediction})))
    files.check(max_sigma=50)
    assert network.load(files)[1].prediction == prediction


def test_schedule_of_another_prediction(tmp_path: Path) -> None:
    edit_json(tiny_model(tmp_path) / "scheduler_config.json", prediction_type="flow_prediction")
    assert "prediction_type=flow_prediction" in refusal(tmp_path, "")


def test_a_schedule_longer_than_the_timesteps_that_were_learned(tmp_path: Path) -> None:
    learned = {"time_embedding_type": "learned", "num_train_timesteps": 500}
    files = model_files.find(str(tiny_model(tmp_path, **learned)))
    with pytest.raises(UserError, match=r"^model: it has learned 500 timesteps, and its schedule has 1000"):
        files.check(max_sigma=25)


def test_a_network_that_works_on_a_code_is_refused(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, nested=True)
    parts = {"_class_name": "LDMPipeline", "unet": ["diffusers", "UNet2DModel"], "vqvae": ["diffusers", "VQModel"]}
    (folder / "model_index.json").write_text(json.dumps(parts))
    assert "LDMPipeline with a vqvae (VQModel)" in refusal(folder, folder)
    (folder / "model_index.json").write_text(json.dumps(parts | {"vqvae": [None, None]}))
    model_files.find(str(folder))


def test_noise_beyond_the_schedule(tmp_path: Path) -> None:
    files = model_files.find(str(tiny_model(tmp_path, schedule={"trained_betas": [0.01, 0.02]})))
    files.check(max_sigma=22)
    with pytest.raises(UserError, match=r"^sigma: 23 is beyond"):
        files.check(max_sigma=23)
