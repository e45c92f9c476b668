"""A manifest in a folder of its own: whole or not there, replaced at once, and nothing else deleted."""

from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from imagewizard.errors import RunLockedError, UserError
from imagewizard.manifest import index as manifest_index
from imagewizard.manifest import listing, shards, standalone
from imagewizard.manifest.filters import Filters
from imagewizard.manifest.queries import Changes
from imagewizard.manifest.standalone import Outcome
from imagewizard.manifest.tally import Tally
from imagewizard.storage import Folder
from imagewizard.storage.lease import Lease


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for i in range(25):
        (tmp_path / "in" / "deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "deep" / f"{i}.png").write_bytes(b"x" * i)
    (tmp_path / "in" / "notes.txt").touch()
    return tmp_path / "in"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 10)


def write(source: Path | str, folder: Path | str, **filters: object) -> Outcome:
    return standalone.write(standalone.plan(str(source), str(folder), Filters(**filters)))


def ids(folder: Path | str) -> list[str]:
    return [i for table in listing.batches(str(folder), Tally()) for i in table["image_id"].to_pylist()]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != "_lock.json")


def test_manifest_is_plain_parquet_with_an_index(source: Path, tmp_path: Path) -> None:
    outcome = write(source, tmp_path / "m")
    index = outcome.index
    assert files(tmp_path / "m") == ["index.json", "s00000.parquet", "s00001.parquet", "s00002.parquet"]
    assert (index.images, index.skipped, index.filtered, index.bytes) == (25, 1, 0, sum(range(25)))
    assert (index.source, index.filters) == (str(source), {})
    assert outcome.changes is None and outcome.rate > 0
    count = duckdb.sql(f"SELECT count(DISTINCT image_id) FROM '{tmp_path}/m/*.parquet'").fetchall()
    assert count == [(25,)]
    assert sorted(ids(tmp_path / "m")) == sorted(ids(source))
    assert standalone.plan(str(source), str(tmp_path / "m"), Filters()).before == index


def test_filters_are_applied_and_kept(source: Path, tmp_path: Path) -> None:
    index = write(source, tmp_path / "m", min_bytes=5, glob="**/1*.png").index
    assert sorted(ids(tmp_path / "m")) == sorted(f"deep/{i}.png" for i in range(10, 20))
    assert (index.images, index.filtered, index.filters) == (10, 15, {"min_bytes": 5, "glob": "**/1*.png"})
    with pytest.raises(UserError, match="no image to list, but 25 that the filters drop"):
        write(source, tmp_path / "n", min_bytes=500)


def test_another_source_or_other_filters_are_refused(source: Path, tmp_path: Path) -> None:
    write(source, tmp_path / "m")
    with pytest.raises(UserError, match="was listed otherwise"):
        write(source / "deep", tmp_path / "m")
    with pytest.raises(UserError, match="was listed otherwise"):
        write(source, tmp_path / "m", min_bytes=1)
    write(f"{source}/", tmp_path / "m")


def test_a_refresh_replaces_it_and_tells_the_changes(source: Path, tmp_path: Path) -> None:
    write(source, tmp_path / "m")
    for i in range(3):
        (source / f"new{i}.png").touch()
    (source / "deep" / "7.png").unlink()
    (source / "deep" / "8.png").write_bytes(b"longer now")
    outcome = write(source, tmp_path / "m")
    assert outcome.changes == Changes(new=3, gone=1, resized=1)
    assert files(tmp_path / "m") == ["index.json", *[f"s0000{i}-g1.parquet" for i in range(3)]]
    assert sorted(ids(tmp_path / "m")) == sorted(ids(source))
    assert write(source, tmp_path / "m").changes == Changes(0, 0, 0)
    assert "s00000-g2.parquet" in files(tmp_path / "m")


def test_a_reader_sees_the_old_manifest_until_the_new_one_is_whole(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source, tmp_path / "m")
    (source / "new.png").touch()
    seen = []
    folder_write, folder_delete = Folder.write, Folder.delete

    def watched_write(folder: Folder, name: str, data: bytes) -> None:
        seen.append(len(ids(tmp_path / "m")))
        folder_write(folder, name, data)
        seen.append(len(ids(tmp_path / "m")))

    def watched_delete(folder: Folder, names: list[str]) -> None:
        seen.append(len(ids(tmp_path / "m")))
        folder_delete(folder, names)

    monkeypatch.setattr(Folder, "write", watched_write)
    monkeypatch.setattr(Folder, "delete", watched_delete)
    write(source, tmp_path / "m")
    assert seen == [25] * seen.count(25) + [26] * seen.count(26)
    assert seen.count(25) >= 7 and seen.count(26) >= 2


def test_an_interrupted_listing_starts_afresh_and_an_interrupted_refresh_keeps_the_old(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(manifest_index, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(source, tmp_path / "m")
    assert "index.json" not in files(tmp_path / "m")
    for i in range(15):
        (source / "deep" / f"{i}.png").unlink()
    assert write(source, tmp_path / "m").index.images == 10
    assert files(tmp_path / "m") == ["index.json", "s00000.parquet"]
    with monkeypatch.context() as patch:
        patch.setattr(manifest_index, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(source, tmp_path / "m")
    assert len(ids(tmp_path / "m")) == 10
    write(source, tmp_path / "m")
    assert files(tmp_path / "m") == ["index.json", "s00000-g1.parquet"]


def test_second_writer_is_refused(source: Path, tmp_path: Path) -> None:
    with Lease(str(tmp_path / "m")), pytest.raises(RunLockedError):
        write(source, tmp_path / "m")
    write(source, tmp_path / "m")


@pytest.mark.parametrize("name", ["photo.png", "results.parquet", "s1.parquet"])
def test_a_folder_of_other_files_is_left_alone(source: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).touch()
    with pytest.raises(UserError, match=f"--out: .* holds other files \\({name}\\)"):
        write(source, tmp_path / "m")
    (tmp_path / "m" / name).unlink()
    write(source, tmp_path / "m")
    (tmp_path / "m" / name).touch()
    write(source, tmp_path / "m")
    assert name in files(tmp_path / "m")


def test_unusable_folders_are_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, complaint in (
        (source, "lies in"),
        (source / "m", "lies in"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "m", "is a file"),
        ("/proc/m", "not writable"),
        ("s3:///m", "names no bucket"),
        ("ftp://x/m", "not supported"),
    ):
        with pytest.raises(UserError, match=complaint) as error:
            write(source, folder)
        assert "\n" not in str(error.value)
    write(source, tmp_path / "in-m")
    assert not (source / "m").exists()


def test_a_source_without_images_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        write(tmp_path / "in", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_from_s3_to_s3(source: Path, bucket: str) -> None:
    for path in source.rglob("*.*"):
        Folder(bucket).write(f"in/{path.name}", path.read_bytes())
    write(f"{bucket}/in", f"{bucket}/m")
    Folder(bucket).write("in/new.png", b"x")
    assert write(f"{bucket}/in/", f"{bucket}/m/").changes == Changes(1, 0, 0)
    names = Folder(f"{bucket}/m").list()
    assert [name for name in names if name != "_lock.json"] == [
        "index.json", "s00000-g1.parquet", "s00001-g1.parquet", "s00002-g1.parquet"
    ]  # fmt: skip
    assert len(ids(f"{bucket}/m")) == 26


def test_manifest_is_readable_without_its_index(source: Path, tmp_path: Path) -> None:
    write(source, tmp_path / "m")
    assert pq.read_table(tmp_path / "m" / "s00000.parquet").num_rows == 10
    (tmp_path / "m" / "index.json").unlink()
    assert sorted(ids(tmp_path / "m")) == sorted(ids(source))
