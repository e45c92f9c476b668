"""Weights in several files or in a variant, as diffusers saves them, are loaded as diffusers loads them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel as Published
from safetensors.torch import load_file, save_file

from imagewizard.errors import UserError
from imagewizard.models import files as model_files
from imagewizard.models import network, weights
from tests.support.models import refusal, tiny_model, tiny_unet

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = "diffusion_pytorch_model.safetensors.index.json"


def saved(folder: Path, **options: Any) -> Path:
    """A model folder whose weights save_pretrained has written with these options."""
    (tiny_model(folder) / WEIGHTS).unlink()
    tiny_unet().save_pretrained(folder, **options)
    return folder


def assert_loads_as_diffusers_does(folder: Path, **options: Any) -> None:
    files = model_files.find(str(folder))
    files.check(max_sigma=50)
    expected = Published.from_pretrained(folder, **options).state_dict()
    found = network.load(files)[0].state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name].float(), rtol=0, atol=0)


SAVED = {
    "variant": {"variant": "fp16"},
    "sharded": {"max_shard_size": "40KB"},
    "sharded variant": {"variant": "bf16", "max_shard_size": "40KB"},
    "sharded pickles": {"max_shard_size": "40KB", "safe_serialization": False},
    "pickled variant": {"variant": "fp16", "safe_serialization": False},
    "ema": {"variant": "ema"},
}


@pytest.mark.parametrize("options", SAVED.values(), ids=SAVED.keys())
def test_what_diffusers_saves_is_loaded(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = saved(tmp_path, **options)
    assert len(list(folder.glob("diffusion_pytorch_model*"))) > ("max_shard_size" in options)
    reading = {"variant": options.get("variant"), "use_safetensors": options.get("safe_serialization", True)}
    assert_loads_as_diffusers_does(folder, **reading)


def test_the_older_name_of_a_variants_index(tmp_path: Path) -> None:
    folder = saved(tmp_path, variant="fp16", max_shard_size="40KB")
    old = folder / "diffusion_pytorch_model.safetensors.fp16.index.json"
    (folder / "diffusion_pytorch_model.safetensors.index.fp16.json").rename(old)
    assert model_files.find(str(folder)).weights == old
    network.load(model_files.find(str(folder)))


def test_fingerprint_is_that_of_all_parts(tmp_path: Path) -> None:
    folder = saved(tmp_path, max_shard_size="40KB")
    before = model_files.find(str(folder)).fingerprint
    last = sorted(folder.glob("*-of-*.safetensors"))[-1]
    tensors = load_file(last)
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, last)
    assert model_files.find(str(folder)).fingerprint != before


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_parts_that_are_not_whole_are_named(tmp_path: Path, damage: str) -> None:
    folder = saved(tmp_path, max_shard_size="40KB")
    part = sorted(folder.glob("*-of-*.safetensors"))[1]
    part.unlink() if damage == "gone" else part.write_bytes(part.read_bytes()[:-1])
    assert part.name in refusal(folder, folder)
    with pytest.raises(UserError, match=part.name):  # the driver detects it too
        model_files.find(str(folder)).check(max_sigma=25)


@pytest.mark.parametrize(
    "weight_map",
    [None, {}, [], {"conv_in.weight": 3}, {"conv_in.weight": "../other/a.safetensors"}],
)
def test_an_index_that_names_no_files_of_its_folder(tmp_path: Path, weight_map: object) -> None:
    folder = saved(tmp_path, max_shard_size="40KB")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert "weight_map" in refusal(folder, folder / INDEX)


PLAIN, FP16 = WEIGHTS, "diffusion_pytorch_model.fp16.safetensors"
PARTS = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
FP16_PARTS = [f"diffusion_pytorch_model.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)]
FP16_INDEX = "diffusion_pytorch_model.safetensors.index.fp16.json"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([FP16, PLAIN, "diffusion_pytorch_model.bin", "diffusion_pytorch_model.non_ema.safetensors"], [PLAIN]),
        ([FP16, "diffusion_pytorch_model.fp32.safetensors"], ["diffusion_pytorch_model.fp32.safetensors"]),
        ([FP16, "diffusion_pytorch_model.bf16.safetensors"], [FP16]),
        ([FP16, "diffusion_pytorch_model.bin"], [FP16]),
        ([*PARTS, INDEX, FP16], [INDEX, *PARTS]),
        ([*PARTS, INDEX, PLAIN], [INDEX, *PARTS]),
        ([*PARTS, *FP16_PARTS, FP16_INDEX], [FP16_INDEX, *FP16_PARTS]),
        (["diffusion_pytorch_model.ema.safetensors"], ["diffusion_pytorch_model.ema.safetensors"]),
        (["diffusion_pytorch_model.fp16.bin"], ["diffusion_pytorch_model.fp16.bin"]),
        (PARTS, None),
        (["model.safetensors", "diffusion_flax_model.msgpack", "config.json"], None),
    ],
)
def test_which_files_are_chosen(names: list[str], expected: list[str] | None) -> None:
    chosen = weights.choose(names)
    assert (None if chosen is None else weights.belonging(chosen, names)) == expected


def test_other_weights_are_not_chosen_from(tmp_path: Path) -> None:
    folder = saved(tmp_path, variant="ema")
    tiny_unet(seed=1).save_pretrained(folder, variant="non_ema")
    named = "diffusion_pytorch_model.ema.safetensors, diffusion_pytorch_model.non_ema.safetensors; keep one"
    assert named in refusal(folder, "several weights")
