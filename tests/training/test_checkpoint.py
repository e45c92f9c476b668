"""A trainer's state as files: a resume is bit-identical, and errors name the broken checkpoint."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from imagewizard.errors import UserError
from imagewizard.tracking import checkpoints
from imagewizard.training import checkpoint
from imagewizard.training.trainer import Trainer
from tests.support.models import tiny_network
from tests.support.training_parts import ALONE, batch, config, state, train, trainer

NAME = "s3://bucket/run/checkpoints/step-00000002"
FACTS = {"workers": 1, "device": "cpu", "seconds": 2.5, "skipped": []}


def resumed(folder: Path, **changes: Any) -> Trainer:
    """A new trainer, first with other random weights, then with the state of `folder`."""
    run = trainer(config(**changes), steps=20)
    for parameter in run.unet.parameters():
        torch.nn.init.normal_(parameter)
    checkpoint.load(run, folder, NAME)
    return run


def saved(folder: Path, steps: int = 2, **changes: Any) -> Trainer:
    run = trainer(config(**changes), steps=20)
    train(run, steps)
    checkpoint.write(run, folder, 30.5, FACTS)
    return run


NETWORKS = {
    "plain": tiny_network(),
    "dropout": tiny_network(dropout=0.5),
    "attention": tiny_network(add_attention=True),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, network: dict) -> None:
    run = saved(tmp_path, network=network)
    again = resumed(tmp_path, network=network)
    before, found = state(run), state(again)
    assert {name.split(".")[0] for name in found} == {"unet", "ema", "step", "exp_avg", "exp_avg_sq"}
    for name, tensor in found.items():
        assert torch.equal(tensor, before[name]) and tensor.stride() == before[name].stride()
    assert (again.step, again.watch.smoothed, again.watch.least) == (run.step, run.watch.smoothed, run.watch.least)

    torch.rand(7)  # other random draws do not matter
    assert train(again, 3) == train(run, 3)
    expected, found = state(run), state(again)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert (again.step, again.watch.smoothed, again.watch.least) == (5, run.watch.smoothed, run.watch.least)
    assert not any(torch.equal(found[name], before[name]) for name in found if name.startswith("ema."))


def test_dropout_draws_new_masks_each_step() -> None:
    """Otherwise the test above would not cover dropout."""
    losses = {}
    for name in ("plain", "dropout"):
        run = trainer(config(network=NETWORKS[name], optimizer={"learning_rate": 1e-30, "weight_decay": 0}))
        losses[name] = [run.train_step([batch(run.config)]).terms["loss"] for _ in range(3)]
    assert len(set(losses["plain"])) == 1 and len(set(losses["dropout"])) == 3


def test_files_are_safetensors_and_json(tmp_path: Path) -> None:
    run = saved(tmp_path)
    digest = hashlib.sha256((tmp_path / "state.safetensors").read_bytes()).hexdigest()
    assert json.loads((tmp_path / "state.json").read_text())["sha256"] == digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.json", "state.safetensors"]
    assert json.loads((tmp_path / "state.json").read_text())["step"] == 2
    tensors = load_file(tmp_path / "state.safetensors")
    assert len(tensors) == 4 * len(list(run.unet.parameters()))
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


@pytest.mark.parametrize("where", ["local", "s3"])
def test_runs_checkpoints_are_listed_resumed_and_pruned(
    where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = str(tmp_path / "run") if where == "local" else f"{request.getfixturevalue('bucket')}/run"
    assert checkpoint.newest(folder, ALONE) is None
    run = trainer(config(), steps=20)
    for psnr in (30.0, 32.0, 31.0):
        train(run, 1)
        checkpoint.save(run, folder, psnr, FACTS | {"seconds": psnr})
    assert [(kept.step, kept.psnr) for kept in checkpoints.kept(folder)] == [(1, 30.0), (2, 32.0), (3, 31.0)]
    assert checkpoints.kept(folder)[-1].facts == FACTS | {"seconds": 31.0}
    checkpoints.prune(folder, keep=1)
    assert [kept.step for kept in checkpoints.kept(folder)] == [2, 3]
    assert checkpoints.latest_step(folder) == 3
    again = trainer(config(), steps=20)
    newest = checkpoint.newest(folder, ALONE)
    assert newest is not None
    checkpoint.resume(again, folder, newest.name)
    assert again.step == 3
    found = state(again)
    assert all(torch.equal(found[name], tensor) for name, tensor in state(run).items() if name in found)


def test_half_written_checkpoint_is_ignored(tmp_path: Path) -> None:
    run = trainer(config(), steps=20)
    train(run, 1)
    checkpoint.save(run, str(tmp_path), 30.0, FACTS)
    train(run, 1)
    checkpoint.save(run, str(tmp_path), 31.0, FACTS)
    (tmp_path / "checkpoints/step-00000002/state.json").unlink()  # the file that is written last
    assert checkpoints.latest_step(str(tmp_path)) == 1
    newest = checkpoint.newest(str(tmp_path), ALONE)
    assert newest is not None and newest.name == "step-00000001"


# --- refusals


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as error:
        resumed(folder, **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "rubbish", "folder"])
def test_error_names_the_broken_checkpoint(tmp_path: Path, name: str, damage: str) -> None:
    saved(tmp_path)
    path = tmp_path / name
    match damage:
        case "cut":
            os.truncate(path, path.stat().st_size * 2 // 3)
        case "empty":
            os.truncate(path, 0)
        case "rubbish":
            path.write_bytes(b"\xff" * path.stat().st_size)
        case _:
            path.unlink()
    if damage == "folder":
        path.mkdir()
    line = refusal(tmp_path)
    assert line.startswith(f"{NAME}: cannot be read (")
    assert line.endswith("); restore it, or start again in another output")


@pytest.mark.parametrize("numbers", ["[]", "{}", '{"step": null, "smoothed_loss": 1, "least_loss": 1}', "3"])
def test_invalid_numbers(tmp_path: Path, numbers: str) -> None:
    saved(tmp_path)
    (tmp_path / "state.json").write_text(numbers)
    assert refusal(tmp_path).startswith(f"{NAME}: cannot be read (")


@pytest.mark.parametrize(
    "network",
    [
        tiny_network(block_out_channels=[8, 8]),
        tiny_network(2),
        tiny_network(add_attention=True),
        tiny_network(layers_per_block=2),
    ],
    ids=["widths", "channels", "attention", "depth"],
)
def test_checkpoint_of_another_architecture(tmp_path: Path, network: dict) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    saved(tmp_path / "one")
    saved(tmp_path / "other", network=network)
    line = f"{NAME}: holds another architecture than model or network; give another output"
    assert refusal(tmp_path / "one", network=network) == line
    assert refusal(tmp_path / "other") == line


def test_checkpoint_without_moments(tmp_path: Path) -> None:
    saved(tmp_path)
    tensors = load_file(tmp_path / "state.safetensors")
    save_file({n: t for n, t in tensors.items() if not n.startswith("exp_avg_sq.")}, tmp_path / "state.safetensors")
    assert "another architecture" in refusal(tmp_path)
