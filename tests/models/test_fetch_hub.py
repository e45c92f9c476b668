"""Models on the hub, for which a local HTTP server stands in."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from imagewizard.models import fetch, network
from imagewizard.models import files as model_files
from imagewizard.models.weights import WEIGHTS
from tests.support import hub_server
from tests.support.hub_server import Hub
from tests.support.models import PICKLED_WEIGHTS, pickle_weights, tiny_model, tiny_unet


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """The address of a hub with a model's files from tmp_path/published."""
    with hub_server.running(tmp_path / "published") as address:
        yield address


def find(tmp_path: Path, name: str, hub_seconds: float = fetch.HUB_SECONDS, **environment: str) -> tuple[str, str]:
    """(weights, error) of a fresh process: huggingface_hub reads its environment only once, on import."""
    code = (
        "import sys; from imagewizard.models import files as model_files; from imagewizard.errors import UserError\n"
        f"from imagewizard.models import fetch; fetch.HUB_SECONDS = {hub_seconds}\n"
        f"try: print(model_files.find({name!r}).weights)\n"
        "except UserError as error: sys.exit(str(error))\n"
        "assert 'torch' not in sys.modules"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_") and "proxy" not in key.lower()}
    env = kept | {"HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": os.pathsep.join(sys.path)} | environment
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip(), done.stderr.strip()


def fix(error: str) -> bool:
    """Whether an error is one line with the way to proceed without the hub."""
    command = "`hf download publisher/denoiser --local-dir DIR`, and give model=DIR"
    return error.startswith("model: publisher/denoiser ") and "\n" not in error and command in error


@pytest.mark.parametrize("nested", [False, True])
def test_hub_model_is_fetched_once_and_found_offline(tmp_path: Path, hub: str, nested: bool) -> None:
    folder = tiny_model(tmp_path / "published", nested=nested)
    torch.save(load_file(next(folder.rglob(WEIGHTS))), next(folder.rglob(WEIGHTS)).with_name(PICKLED_WEIGHTS))
    (folder / "samples.png").touch()
    weights, error = find(tmp_path, "publisher/denoiser", HF_ENDPOINT=hub)
    assert weights and not error
    found = Path(weights).parent.parent if nested else Path(weights).parent
    assert model_files.find(str(found)).fingerprint == model_files.find(str(folder)).fingerprint
    fetched = [line for line in Hub.log if line.startswith("GET /publisher/denoiser/resolve/")]
    assert len(fetched) == 3 and not [line for line in fetched if line.endswith((PICKLED_WEIGHTS, ".png"))]

    Hub.log.clear()
    assert find(tmp_path, "publisher/denoiser", HF_ENDPOINT=hub)[0] == weights
    assert not [line for line in Hub.log if line.startswith("GET /publisher/denoiser/resolve/")]
    assert find(tmp_path, "publisher/denoiser", HF_HUB_OFFLINE="1")[0] == weights
    assert find(tmp_path, "publisher/denoiser", HF_ENDPOINT="http://127.0.0.1:9")[0] == weights


def test_hub_model_with_only_pickled_weights(tmp_path: Path, hub: str) -> None:
    pickle_weights(tiny_model(tmp_path / "published"))
    weights, error = find(tmp_path, "publisher/denoiser", HF_ENDPOINT=hub)
    assert not error and Path(weights).name == PICKLED_WEIGHTS
    network.load(model_files.find(str(Path(weights).parent)))
    assert find(tmp_path, "publisher/denoiser", HF_HUB_OFFLINE="1")[0] == weights


@pytest.mark.parametrize("options", [{"variant": "fp16"}, {"max_shard_size": "40KB"}], ids=str)
def test_hub_model_in_parts_or_in_a_variant(tmp_path: Path, hub: str, options: dict) -> None:
    folder = tiny_model(tmp_path / "published", nested=True)
    (folder / "unet" / WEIGHTS).unlink()
    tiny_unet().save_pretrained(folder / "unet", **options)
    (folder / "config.json").write_text("{}")
    weights, error = find(tmp_path, "publisher/denoiser", HF_ENDPOINT=hub)
    assert not error
    found = model_files.find(str(Path(weights).parent.parent))
    assert found.fingerprint == model_files.find(str(folder)).fingerprint
    network.load(found)
    assert find(tmp_path, "publisher/denoiser", HF_HUB_OFFLINE="1")[0] == weights


def test_hub_models_that_are_incomplete_or_missing(tmp_path: Path, hub: str) -> None:
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "pytorch_model.bin").touch()
    _, error = find(tmp_path, "publisher/denoiser", HF_ENDPOINT=hub)
    assert error.startswith("model: publisher/denoiser on the hub has none of config.json") and "\n" not in error
    (tmp_path / "published" / "config.json").write_text("{}")
    _, error = find(tmp_path, "publisher/denoiser", HF_ENDPOINT=hub)
    assert error.startswith(f"model: publisher/denoiser has no {WEIGHTS}") and "\n" not in error
    _, error = find(tmp_path, "publisher/other", HF_ENDPOINT=hub)
    assert error.startswith("model: publisher/other is no folder here, and the hub shows you no such model")
    assert "\n" not in error


def test_hub_out_of_reach(tmp_path: Path) -> None:
    unreachable = [
        {"HF_HUB_OFFLINE": "1"},
        {"HF_ENDPOINT": "http://127.0.0.1:9"},  # refuses connections
        {"HF_ENDPOINT": "http://no-such-host.invalid"},
    ]
    with ThreadPoolExecutor(len(unreachable)) as pool:
        found = list(pool.map(lambda variables: find(tmp_path, "publisher/denoiser", **variables), unreachable))
    assert all(fix(error) for _, error in found), found


def test_silent_hub_times_out(tmp_path: Path) -> None:
    assert fetch.HUB_SECONDS <= 5
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections but never answers
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert fix(find(tmp_path, "publisher/denoiser", hub_seconds=0.5, HF_ENDPOINT=endpoint)[1])
