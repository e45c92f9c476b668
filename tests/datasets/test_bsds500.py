"""BSDS500 becomes manifests, from folders, archives and a server; other data is refused."""

import os
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from imagewizard.datasets import bsds500
from imagewizard.errors import UserError
from imagewizard.images.picture import decode_rgb
from imagewizard.manifest import shards
from imagewizard.schema import MANIFEST_SCHEMA
from tests.support.bsds500_files import FINGERPRINTS, write_bsds500

COUNTS = {"train": 200, "test": 200, "finetune": 400, "val": 32, "benchmark": 68}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    write_bsds500(folder)
    return folder


@pytest.fixture
def source(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may change; its files are links, so replace them, do not write to them."""
    return Path(shutil.copytree(original, tmp_path / "source", copy_function=os.link))


@pytest.fixture(scope="module")
def tgz(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the layout of the published archive."""
    path = tmp_path_factory.mktemp("archive") / "BSR_bsds500.tgz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(original, "BSR/BSDS500/data/images")
        tar.add(__file__, "BSR/BSDS500/data/images/train/Thumbs.db")
        tar.add(__file__, "BSR/BSDS500/data/groundTruth/train/100075.mat")
        tar.add(original / "test" / "test-000.jpg", "BSR/bench/data/images/test-000.jpg")
    return path


def prepare(source: object, destination: Path) -> dict[str, int]:
    return bsds500.prepare(bsds500.plan(str(source), str(destination)))


def rows(destination: Path, name: str) -> list[dict[str, object]]:
    table = pq.read_table(destination / f"{name}.parquet")
    assert table.schema == MANIFEST_SCHEMA
    return list(table.to_pylist())


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


@pytest.fixture(scope="module")
def listed(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifests of `original`, to look at but not to change."""
    destination = tmp_path_factory.mktemp("listed") / "out"
    assert prepare(original, destination) == COUNTS
    return destination


def test_a_folder_is_listed_in_place(original: Path, listed: Path) -> None:
    assert sorted(p.name for p in listed.iterdir()) == sorted(f"{name}.parquet" for name in COUNTS)
    for name, count in COUNTS.items():
        found = rows(listed, name)
        assert len(found) == count
        for row in found:
            path = original / str(row["image_id"])
            assert (row["uri"], row["bytes"]) == (str(path), path.stat().st_size)
    ids = {name: [row["image_id"] for row in rows(listed, name)] for name in COUNTS}
    assert ids["benchmark"] == [f"val/{name}.jpg" for name in FINGERPRINTS]
    assert ids["val"] == [f"val/val-{index:03d}.jpg" for index in range(32)]
    assert ids["train"][0] == "train/train-000.jpg" and ids["finetune"] == ids["train"] + ids["test"]


def test_a_job_reads_the_manifest(listed: Path, tmp_path: Path) -> None:
    shards.check_source(str(listed / "benchmark.parquet"))
    index = shards.write(str(tmp_path / "run"), str(listed / "benchmark.parquet"), None)
    assert (index.images, index.skipped) == (68, 0)
    assert shards.read_shard(str(tmp_path / "run"), 0).to_pylist() == rows(listed, "benchmark")


def test_a_relative_or_linked_folder_gives_absolute_paths(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "links").mkdir()
    for split in ("train", "val", "test"):
        (tmp_path / "links" / split).symlink_to(original / split)
    monkeypatch.chdir(tmp_path)
    assert bsds500.prepare(bsds500.plan("links", "out")) == COUNTS
    assert rows(tmp_path / "out", "val")[0]["uri"] == str(tmp_path / "links" / "val" / "val-000.jpg")


def test_an_archive_is_unpacked_beside_the_manifests(original: Path, tgz: Path, tmp_path: Path) -> None:
    assert prepare(tgz, tmp_path / "out") == COUNTS
    expected = {*(f"{name}.parquet" for name in COUNTS), "images"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == expected
    unpacked = [p for p in (tmp_path / "out" / "images").rglob("*") if p.is_file()]
    assert len(unpacked) == 500
    for row in rows(tmp_path / "out", "benchmark"):
        path = Path(str(row["uri"]))
        assert path == tmp_path / "out" / "images" / str(row["image_id"])
        assert path.read_bytes() == (original / str(row["image_id"])).read_bytes()
    assert tgz.is_file()


def test_a_zip_file_made_on_a_mac_is_accepted(original: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as zipped:
        for path in original.rglob("*.jpg"):
            name = path.relative_to(original).as_posix()
            zipped.write(path, f"images/{name}")
            zipped.writestr(f"__MACOSX/images/{path.parent.name}/._{path.name}", b"attributes")
    assert prepare(tmp_path / "set.zip", tmp_path / "out") == COUNTS


@pytest.fixture
def served(tgz: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of the archive's folder."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tgz.parent)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_url_is_downloaded_and_unpacked(served: str, tmp_path: Path) -> None:
    assert prepare(f"{served}/BSR_bsds500.tgz", tmp_path / "out") == COUNTS
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".parquet", ""}
    assert len(list((tmp_path / "out" / "images" / "val").iterdir())) == 100


def test_a_failed_download_leaves_nothing_behind(served: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"BSR.zip: HTTP 404 File not found; .* --from FILE"):
        prepare(f"{served}/BSR.zip", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_web_page_is_no_archive(served: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"from: {served}/: it is no tar or zip archive; fetch it again"):
        prepare(f"{served}/", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_finished_folder_is_checked_and_left_alone(tgz: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(tgz, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    plan = bsds500.plan("/nowhere", str(out))
    assert plan.kind == "finished" and "nothing" in str(plan)
    assert bsds500.prepare(plan) == COUNTS
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    (out / "images" / "val" / "101085.jpg").write_bytes(b"other")
    with pytest.raises(UserError, match=r"val/101085.jpg is gone or has changed; delete .*benchmark.parquet"):
        prepare(tgz, out)
    (out / "benchmark.parquet").unlink()
    assert prepare(tgz, out) == COUNTS
    (out / "images" / "test" / "test-000.jpg").unlink()
    with pytest.raises(UserError, match=r"test-000.jpg is gone"):
        prepare(tgz, out)
    (out / "test.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"test.parquet is no readable manifest"):
        prepare(tgz, out)


def test_interrupted_preparation_is_resumed(tgz: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(tgz, out)
    (out / "finetune.parquet").unlink()
    (out / "_tmp" / "images" / "train").mkdir(parents=True)
    (out / "_tmp" / "images" / "train" / "a.jpg").write_bytes(b"half")
    assert prepare(tgz, out) == COUNTS
    assert not (out / "_tmp").exists()


def spoil_count(source: Path) -> None:
    (source / "train" / "train-007.jpg").unlink()


def spoil_layout(source: Path) -> None:
    for split in ("train", "val", "test"):
        (source / split).rename(source / f"{split}-images")


def spoil_image(source: Path) -> None:
    path = source / "test" / "test-001.jpg"
    replace(path, path.read_bytes()[:-700])


def spoil_size(source: Path) -> None:
    Image.new("RGB", (480, 321)).save(source / "new.jpg")
    (source / "new.jpg").rename(source / "test" / "test-002.jpg")


def spoil_twice(source: Path) -> None:
    (source / "copy" / "val").mkdir(parents=True)
    shutil.copy(source / "val" / "101085.jpg", source / "copy" / "val")


def spoil_train(source: Path) -> None:
    """A training image that is a benchmark image under another name."""
    replace(source / "train" / "train-003.jpg", (source / "val" / "102061.jpg").read_bytes())


def spoil_benchmark_twice(source: Path) -> None:
    replace(source / "val" / "val-001.jpg", (source / "val" / "102061.jpg").read_bytes())


def spoil_benchmark(source: Path) -> None:
    replace(source / "val" / "102061.jpg", (source / "val" / "val-001.jpg").read_bytes())


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (spoil_count, r"has images: train 199, val 100, test 200; BSDS500 has train 200, val 100, test 200"),
        (spoil_layout, r"has images: train 0, val 0, test 0; BSDS500 has"),
        (spoil_image, r"test/test-001\.jpg: truncated file"),
        (spoil_size, r"test/test-002\.jpg is 480x321; BSDS500's are 481x321 or 321x481"),
        (spoil_twice, r"has val/101085\.jpg twice"),
        (spoil_train, r"train/train-003\.jpg is CBSD68's 102061, which belongs in val and nowhere else"),
        (spoil_benchmark_twice, r"val/val-001\.jpg is CBSD68's 102061, and so is val/102061\.jpg"),
        (spoil_benchmark, r"val has 67 of CBSD68's 68 images, 102061 is missing"),
    ],
)
def test_other_data_gives_one_line_and_no_manifest(source: Path, tmp_path: Path, spoil: object, complaint: str) -> None:
    spoil(source)  # type: ignore[operator]
    with pytest.raises(UserError, match=complaint) as caught:
        prepare(source, tmp_path / "out")
    assert str(caught.value).startswith(f"from: {source}") and "\n" not in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_archive_with_an_image_missing_leaves_no_images(source: Path, tmp_path: Path) -> None:
    spoil_count(source)
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(source, "set")
    with pytest.raises(UserError, match=r"set.tar has images: train 199"):
        prepare(tmp_path / "set.tar", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("origin", "destination", "complaint"),
    [
        ("/nowhere", "out", "from: /nowhere: does not exist; give a folder, a .tgz"),
        ("ftp://host/set.tgz", "out", r"from: ftp://host/set.tgz: ftp:// is not supported; give a folder"),
        ("s3://bucket/set.tgz", "out", "s3:// is not supported; give a folder"),
        ("source", "s3://bucket/out", "dest: s3://bucket/out: .* local folder"),
        ("source", "/proc/out", "dest: /proc is not writable"),
        ("source", "source", r"dest: .*/source holds other files \(test\); give an empty or a new folder"),
        ("source", "source/val/101085.jpg", "dest: .*101085.jpg is a file; give a folder"),
    ],
)
def test_impossible_requests_fail_before_any_work(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: str, destination: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=complaint):
        bsds500.plan(origin, destination)
    assert not (tmp_path / "out").exists()


def test_the_real_set_gives_cbsd68_as_its_benchmark(shared_data: Path, tmp_path: Path) -> None:
    assert prepare(shared_data / "bsds500", tmp_path / "out") == COUNTS
    found = {Path(str(row["uri"])).stem: row["uri"] for row in rows(tmp_path / "out", "benchmark")}
    published = {path.stem: path for path in (shared_data / "cbsd68").iterdir()}
    assert set(found) == set(published)
    for name, path in published.items():
        pixels = [decode_rgb(Path(str(each)).read_bytes(), 1 << 20) for each in (path, found[name])]
        assert (pixels[0] == pixels[1]).all()
