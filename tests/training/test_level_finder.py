"""Training of the level finder: its loss, and that it learns, writes and goes on."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from imagewizard.noise.finder import CELL, FLOOR, CellNoise, LevelFinder
from imagewizard.training import level_finder
from tests.support.scenes import scene


class Told(torch.nn.Module):
    """Stands in for the network: says that each cell has noise of `std` and `level`."""

    def __init__(self, std: float, level: float) -> None:
        super().__init__()
        self.logs = [torch.log(torch.tensor(value + FLOOR)) for value in (std, level)]

    def forward(self, images: torch.Tensor) -> CellNoise:
        shape = (len(images), images.shape[2] // CELL, images.shape[3] // CELL)
        std, level = (log.expand(shape) for log in self.logs)
        return CellNoise(std, level, torch.zeros(shape))


def test_the_loss_is_least_at_the_truth_and_too_low_costs_more():
    noisy = 255 * torch.rand(4, 3, 64, 64)
    truth = torch.full((4, 8, 8), 10.0), torch.full((4, 8, 8), 20.0)
    losses = {told: level_finder.loss(Told(*told), noisy, *truth) for told in ((10, 20), (10, 9), (10, 42), (5, 20))}
    assert min(losses, key=losses.get) == (10, 20)
    assert losses[10, 9] > losses[10, 42]  # as far away, in logarithms


def test_flat_cells_have_no_part_in_the_loss():
    noisy = 255 * torch.rand(1, 3, 64, 64)
    noisy[..., 32:] = 255
    truth = torch.full((1, 8, 8), 10.0)
    wrong = truth.clone()
    wrong[..., 5:] = 70.0
    told = Told(10, 10)
    assert torch.allclose(level_finder.loss(told, noisy, truth, truth), level_finder.loss(told, noisy, wrong, wrong))


def test_samples_depend_on_the_seed_and_their_number_alone():
    images = [scene()]
    one, again, other = (level_finder.Samples(images, 50, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(*pair) for pair in zip(one[7], again[7], strict=True))
    assert not np.array_equal(one[7][0], other[7][0])
    assert len(one) == 50


def test_it_writes_weights_and_goes_on_from_them(tmp_path, monkeypatch, capsys):
    Image.fromarray(scene()).save(tmp_path / "photo.png")
    monkeypatch.setattr(level_finder, "SIDES", (32,))
    output = tmp_path / "weights.safetensors"
    monkeypatch.setattr("sys.argv", ["level_finder", str(tmp_path), str(output), "--steps", "3"])
    level_finder.main()
    weights = {name: weight.float() for name, weight in load_file(output).items()}
    LevelFinder().load_state_dict(weights)
    further = tmp_path / "further.safetensors"
    words = ["level_finder", str(tmp_path), str(further), "--steps", "1", "--start", str(output)]
    monkeypatch.setattr("sys.argv", words)
    level_finder.main()
    moved = max(float((weights[name] - weight.float()).abs().max()) for name, weight in load_file(further).items())
    assert 0 < moved < 0.01
    assert "step 3  loss" in capsys.readouterr().out


def test_no_photographs_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["level_finder", str(tmp_path), str(tmp_path / "weights.safetensors")])
    with pytest.raises(SystemExit):
        level_finder.main()
    assert f"error: {tmp_path} holds no images; give a folder of" in capsys.readouterr().err
