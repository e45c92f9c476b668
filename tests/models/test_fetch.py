"""Remote models: s3:// folders (moto's real server) and hub ids (a local HTTP server stands in for the hub)."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
import torch
from safetensors.torch import load_file

from imagewizard.errors import UserError
from imagewizard.models import fetch, network
from imagewizard.models import files as model_files
from imagewizard.storage import s3
from tests.support.models import tiny_model

WEIGHTS = fetch.WEIGHTS
PICKLED = fetch.PICKLED_WEIGHTS
COMMIT = "0123456789" * 4


def pickle_weights(folder: Path) -> Path:
    """Replaces the folder's safetensors by a pickle, as in older models."""
    weights = next(folder.rglob(WEIGHTS))
    torch.save(load_file(weights), weights.with_name(PICKLED))
    weights.unlink()
    return folder


# --- s3


@pytest.fixture(name="bucket")
def bucket_name(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The name of an empty bucket; the cache is empty too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return bucket.removeprefix("s3://")


def upload(folder: Path, bucket: str, prefix: str = "") -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            boto3.client("s3").upload_file(str(path), bucket, prefix + path.relative_to(folder).as_posix())


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.relative_to(tmp_path / "cache").as_posix() for path in tmp_path.glob("cache/**/*.safetensors"))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("prefix", ["", "runs/my model/"])
def test_s3_folder_is_a_model(tmp_path: Path, bucket: str, prefix: str, nested: bool) -> None:
    folder = tiny_model(tmp_path / "model", nested=nested)
    (folder / "checkpoint.pt").write_bytes(b"x" * 1000)
    upload(folder, bucket, prefix)
    files = model_files.find(f"s3://{bucket}/{prefix}")
    assert files.fingerprint == model_files.find(str(folder)).fingerprint
    files.check(max_sigma=50)
    network.load(files)
    assert not list(tmp_path.glob("cache/**/checkpoint.pt"))  # the model's files only
    assert model_files.find(f"s3://{bucket}/{prefix}".rstrip("/")) == files  # from the cache


def test_s3_copy_is_used_until_the_model_changes(tmp_path: Path, bucket: str) -> None:
    uri = f"s3://{bucket}/model"
    upload(tiny_model(tmp_path / "old"), bucket, "model/")
    old = model_files.find(uri)
    marked = old.weights.read_bytes()[:-4] + b"mark"
    old.weights.write_bytes(marked)
    assert model_files.find(uri).weights.read_bytes() == marked  # not fetched again
    upload(tiny_model(tmp_path / "new", seed=1), bucket, "model/")
    new = model_files.find(uri)
    assert new.fingerprint == model_files.find(str(tmp_path / "new")).fingerprint
    assert old.weights.read_bytes() == marked  # a process that is reading it still can
    upload(tmp_path / "new", bucket, "other/model/")
    assert model_files.find(f"s3://{bucket}/other/model").weights != new.weights


def test_s3_pickled_weights_are_a_fallback(tmp_path: Path, bucket: str) -> None:
    folder = tiny_model(tmp_path / "model")
    upload(folder, bucket, "both/")
    upload(pickle_weights(folder), bucket, "both/")
    upload(folder, bucket, "pickled/")
    assert model_files.find(f"s3://{bucket}/both").weights.name == WEIGHTS
    assert not list(tmp_path.glob(f"cache/**/{PICKLED}"))
    assert model_files.find(f"s3://{bucket}/pickled").weights.name == PICKLED


def test_s3_model_is_fetched_once_for_concurrent_processes(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(tiny_model(tmp_path / "model"), bucket, "model/")
    fetched = []
    original = s3.get

    def slowly(*args: object, **kwargs: object) -> s3.Object:
        fetched.append(args)
        time.sleep(0.05)
        return original(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(s3, "get", slowly)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(model_files.find, [f"s3://{bucket}/model"] * 8))
    assert len(found) == 1 and len(fetched) == 3
    network.load(found.pop())


def test_half_fetched_s3_model_is_not_used(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(tiny_model(tmp_path / "model"), bucket, "model/")
    uri = f"s3://{bucket}/model"

    original = s3.get
    fetched = []

    def break_off(*args: object, **kwargs: object) -> s3.Object:
        if fetched:
            raise OSError("connection lost")
        fetched.append(args)
        return original(*args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(s3, "get", break_off)
        with pytest.raises(UserError, match=rf"^model: {uri} cannot be copied .*connection lost"):
            model_files.find(uri)
    network.load(model_files.find(uri))
    assert len(cached(tmp_path)) == 1 and not list(tmp_path.glob("cache/**/*.partial"))


def test_s3_model_that_is_missing(tmp_path: Path, bucket: str) -> None:
    with pytest.raises(UserError, match=rf"^model: s3://{bucket}/none has none of config.json"):
        model_files.find(f"s3://{bucket}/none")
    folder = tiny_model(tmp_path / "model")
    (folder / "scheduler_config.json").unlink()
    upload(folder, bucket, "half/")
    with pytest.raises(UserError, match=rf"^model: s3://{bucket}/half has no scheduler_config.json"):
        model_files.find(f"s3://{bucket}/half")
    with pytest.raises(UserError, match=r"^model: s3://no-such-bucket/x cannot be copied .*NoSuchBucket[^\n]*$"):
        model_files.find("s3://no-such-bucket/x")


def test_cache_that_cannot_be_written(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(tiny_model(tmp_path / "model"), bucket)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=rf"^model: s3://{bucket} .*XDG_CACHE_HOME[^\n]*$"):
        model_files.find(f"s3://{bucket}")


# --- recognising hub ids


@pytest.mark.parametrize(
    "name", ["none", "./owner/name", "../owner/name", "/owner/name", "a/b/c", "~/name", "owner/", ""]
)
def test_paths_are_no_hub_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    if name:
        with pytest.raises(UserError, match=r"^model: [^\n]* is no folder; give `embedded`"):
            fetch.local_folder(name)
    (tmp_path / "here" / "owner").mkdir()
    (tmp_path / "here" / "owner" / "name").touch()
    with pytest.raises(UserError, match="owner/name is no folder; give"):
        fetch.local_folder("owner/name")


def test_folder_wins_over_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_model(tmp_path / "google" / "ddpm-celebahq-256")
    monkeypatch.chdir(tmp_path)
    expected = model_files.find(str(folder)).fingerprint
    assert model_files.find("google/ddpm-celebahq-256").fingerprint == expected
    assert model_files.find(f"file://{folder}").fingerprint == expected


def test_other_schemes_are_refused() -> None:
    with pytest.raises(UserError, match="gs:// is not supported"):
        model_files.find("gs://bucket/model")


# --- the hub


class Hub(BaseHTTPRequestHandler):
    """Answers huggingface_hub's requests for one model, `publisher/denoiser`, with the files in `folder`."""

    folder: Path
    log: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.log.append(f"{self.command} {path}")
        names = sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())
        api, files = "/api/models/publisher/denoiser", f"/publisher/denoiser/resolve/{COMMIT}/"
        if path in (api, f"{api}/revision/main"):
            siblings = [{"rfilename": name} for name in names]
            self.answer(json.dumps({"id": "publisher/denoiser", "sha": COMMIT, "siblings": siblings}).encode())
        elif path == f"{api}/tree/{COMMIT}":
            sizes = {name: (self.folder / name).stat().st_size for name in names}
            entries = [{"type": "file", "path": name, "size": size, "oid": name} for name, size in sizes.items()]
            self.answer(json.dumps(entries).encode())
        elif path.removeprefix(files) in names:
            self.answer((self.folder / path.removeprefix(files)).read_bytes())
        else:
            self.answer(b"{}", 404, "RepoNotFound")

    def answer(self, data: bytes, status: int = 200, error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hash(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """The address of a hub with a model's files from tmp_path/published."""
    Hub.folder, Hub.log = tmp_path / "published", []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


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
    torch.save(load_file(next(folder.rglob(WEIGHTS))), next(folder.rglob(WEIGHTS)).with_name(PICKLED))
    (folder / "samples.png").touch()
    weights, error = find(tmp_path, "publisher/denoiser", HF_ENDPOINT=hub)
    assert weights and not error
    found = Path(weights).parent.parent if nested else Path(weights).parent
    assert model_files.find(str(found)).fingerprint == model_files.find(str(folder)).fingerprint
    fetched = [line for line in Hub.log if line.startswith("GET /publisher/denoiser/resolve/")]
    assert len(fetched) == 3 and not [line for line in fetched if line.endswith((PICKLED, ".png"))]

    Hub.log.clear()
    assert find(tmp_path, "publisher/denoiser", HF_ENDPOINT=hub)[0] == weights
    assert not [line for line in Hub.log if line.startswith("GET /publisher/denoiser/resolve/")]
    assert find(tmp_path, "publisher/denoiser", HF_HUB_OFFLINE="1")[0] == weights
    assert find(tmp_path, "publisher/denoiser", HF_ENDPOINT="http://127.0.0.1:9")[0] == weights


def test_hub_model_with_only_pickled_weights(tmp_path: Path, hub: str) -> None:
    pickle_weights(tiny_model(tmp_path / "published"))
    weights, error = find(tmp_path, "publisher/denoiser", HF_ENDPOINT=hub)
    assert not error and Path(weights).name == PICKLED
    network.load(model_files.find(str(Path(weights).parent)))
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
