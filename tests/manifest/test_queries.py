"""Questions to whole manifests are answered from their shards."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewizard.manifest import queries
from imagewizard.manifest.queries import Changes
from imagewizard.schema import MANIFEST_SCHEMA
from imagewizard.storage import Folder


def shard(path: Path, images: dict[str, int | None]) -> None:
    columns = {"image_id": list(images), "uri": list(images), "bytes": list(images.values())}
    nothing = [None] * len(images)
    table = pa.table(columns | {"member": nothing, "offset": nothing, "row": nothing}, schema=MANIFEST_SCHEMA)
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path)


def test_repeated_id_is_found_across_shards(tmp_path: Path) -> None:
    shard(tmp_path / "a.parquet", {f"{i}": 1 for i in range(1000)})
    shard(tmp_path / "b.parquet", {f"{i}": 1 for i in range(999, 2000)})
    shard(tmp_path / "c.parquet", {f"{i}": 1 for i in range(1000, 2000)})
    folder = str(tmp_path)
    twice = queries.repeated_id(queries.dataset(folder, ["a.parquet", "b.parquet"]))
    assert twice is not None and twice.image_id == "999"
    assert [row["uri"] for row in twice.rows] == ["999", "999"]
    assert queries.repeated_id(queries.dataset(folder, ["a.parquet", "c.parquet"])) is None
    assert queries.repeated_id(queries.dataset(folder, [])) is None


def test_ids_of_equal_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard(tmp_path / "a.parquet", {f"{i}": 1 for i in range(100)})
    connection = duckdb.connect

    def connect(**options: object) -> object:
        made = connection(**options)
        made.execute("CREATE MACRO hash(x) AS x[1]")
        return made

    monkeypatch.setattr(duckdb, "connect", connect)
    assert queries.repeated_id(queries.dataset(str(tmp_path), ["a.parquet"])) is None
    shard(tmp_path / "b.parquet", {"7": 1})
    twice = queries.repeated_id(queries.dataset(str(tmp_path), ["a.parquet", "b.parquet"]))
    assert twice is not None and twice.image_id == "7"


def test_changes_are_counted_by_id(tmp_path: Path) -> None:
    shard(tmp_path / "old" / "a.parquet", {"same": 1, "gone": 1, "grown": 1, "unknown": None, "lost": 1})
    shard(tmp_path / "old" / "b.parquet", {"went": 1, "null": None})
    shard(tmp_path / "new" / "a.parquet", {"null": 5, "same": 1, "grown": 2, "unknown": None, "lost": None})
    shard(tmp_path / "new" / "b.parquet", {"x": 1, "y": 1, "z": None})
    old = queries.dataset(str(tmp_path / "old"), ["a.parquet", "b.parquet"])
    new = queries.dataset(str(tmp_path / "new"), ["a.parquet", "b.parquet"])
    assert queries.changes(old, new) == Changes(new=3, gone=2, resized=3)
    assert queries.changes(old, old) == Changes(0, 0, 0)


def test_shards_on_s3_are_read_where_they_are(tmp_path: Path, bucket: str) -> None:
    shard(tmp_path / "a.parquet", {"a": 1, "b": 1})
    Folder(bucket).write("m/a.parquet", (tmp_path / "a.parquet").read_bytes())
    found = queries.dataset(f"{bucket}/m", ["a.parquet"])
    assert queries.changes(queries.dataset("x", []), found) == Changes(2, 0, 0)


def test_queries_spill_to_disk_and_clean_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    monkeypatch.setattr(queries, "MEMORY", "60MB")
    for name in "ab":
        shard(tmp_path / f"{name}.parquet", {f"{'path/' * 20}{name}{i:07d}.png": 1 for i in range(400_000)})
    both = queries.dataset(str(tmp_path), ["a.parquet", "b.parquet"])
    assert queries.repeated_id(both) is None
    assert not list(tmp_path.glob("tmp/*/*"))
