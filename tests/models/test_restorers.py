"""The class name in a model's config selects its restorer."""

import json
from pathlib import Path

import pytest
import torch

from imagewizard.config.denoise import DenoiseSection
from imagewizard.diffusion.ddpm import DDPM
from imagewizard.errors import UserError
from imagewizard.models import files as model_files
from imagewizard.models import restorers
from tests.support.models import tiny_model


def rename(folder: Path, class_name: str | None) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["_class_name"]
    (folder / "config.json").write_text(json.dumps(config | ({"_class_name": class_name} if class_name else {})))


@pytest.mark.parametrize("class_name", ["UNet2DModel", None])
def test_a_unet_is_a_ddpm_also_without_a_class_name(tmp_path: Path, class_name: str | None) -> None:
    rename(tiny_model(tmp_path), class_name)
    files = model_files.find(str(tmp_path))
    restorers.check(files, 25.0)
    restorer = restorers.load(files, DenoiseSection())
    assert isinstance(restorer, DDPM)
    assert restorer.multiple == 2 and restorer.max_sigma == pytest.approx(20203, rel=0.01)
    assert restorer.timestep(25.0) == pytest.approx(56.2, abs=0.5) and restorer.timestep(0.0) is None
    restorer.to(torch.device("cpu"), torch.float32)
    assert restorer.estimate(torch.zeros(2, 3, 8, 8), [25.0, 50.0]).shape == (2, 3, 8, 8)


def test_unknown_class_is_refused_by_name(tmp_path: Path) -> None:
    rename(tiny_model(tmp_path), "UNet3DModel")
    with pytest.raises(UserError, match=r"^model: .* holds a UNet3DModel, .*; give a folder of one of UNet2DModel"):
        model_files.find(str(tmp_path))


def test_every_kind_of_model_files_has_a_restorer() -> None:
    assert restorers.KINDS.keys() == model_files.NEEDED.keys()
