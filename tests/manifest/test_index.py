"""The index of a manifest: it names the shards, and nothing else is taken for one."""

import json
from pathlib import Path

import pytest

from imagewizard.manifest import index as manifest_index
from imagewizard.manifest.index import ManifestIndex
from imagewizard.storage import Folder


def test_an_index_comes_back_as_it_was_written(tmp_path: Path) -> None:
    index = ManifestIndex(
        images=7, skipped=2, block_rows=4, blocks=[2, 1], bytes=99, generation=3, source=["a", "b"],
        filters={"glob": "*"}, filtered=1, listed_at="2026-05-01T12:00:00+00:00",
    )  # fmt: skip
    manifest_index.write(Folder(str(tmp_path)), index)
    assert manifest_index.read(str(tmp_path)) == index
    assert json.loads((tmp_path / "index.json").read_text())["blocks"] == [2, 1]


def test_an_index_of_an_older_version_lacks_fields(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"images": 3, "skipped": 0, "block_rows": 64, "blocks": [1]}')
    index = manifest_index.read(str(tmp_path))
    assert index == ManifestIndex(images=3, skipped=0, block_rows=64, blocks=[1])
    assert index.shards == ["s00000.parquet"]


def test_shards_are_named_by_number_and_generation() -> None:
    index = ManifestIndex(images=3, skipped=0, block_rows=1, blocks=[1, 2], generation=12)
    assert index.shards == ["s00000-g12.parquet", "s00001-g12.parquet"]
    assert manifest_index.shard_name(123456) == "s123456.parquet"


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    assert manifest_index.read(str(tmp_path)) is None
    assert manifest_index.read(str(tmp_path / "nowhere")) is None


@pytest.mark.parametrize("text", ['{"images": 3}', "[1]", "no json", '{"blocks": [1]}', "null"])
def test_index_of_another_program_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    assert manifest_index.read(str(tmp_path)) is None
