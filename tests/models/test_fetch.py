"""Models in s3:// folders (moto's real server), and what is taken for a hub id."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from imagewizard.errors import UserError
from imagewizard.models import fetch, network
from imagewizard.models import files as model_files
from imagewizard.models.weights import WEIGHTS
from imagewizard.storage import s3
from tests.support.models import PICKLED_WEIGHTS, pickle_weights, tiny_model, tiny_unet

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
    assert not list(tmp_path.glob(f"cache/**/{PICKLED_WEIGHTS}"))
    assert model_files.find(f"s3://{bucket}/pickled").weights.name == PICKLED_WEIGHTS


@pytest.mark.parametrize("nested", [False, True])
def test_s3_parts_and_variants_are_fetched(tmp_path: Path, bucket: str, nested: bool) -> None:
    folder = tiny_model(tmp_path / "model", nested=nested)
    weights = next(folder.rglob(WEIGHTS))
    tiny_unet().save_pretrained(weights.parent, variant="fp16", max_shard_size="40KB")
    weights.unlink()
    (weights.parent / "diffusion_pytorch_model-00001-of-00009.safetensors").touch()  # of another set of parts
    upload(folder, bucket, "model/")
    files = model_files.find(f"s3://{bucket}/model")
    assert files.fingerprint == model_files.find(str(folder)).fingerprint
    network.load(files)
    assert not [name for name in cached(tmp_path) if name.endswith("-00009.safetensors")]


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
