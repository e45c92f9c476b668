"""Which folders may become outputs, and what a folder sweeps away."""

import pickle
from pathlib import Path

import pytest

from imagewizard.errors import UserError
from imagewizard.storage import Folder
from imagewizard.storage.lease import Lease


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest) -> Folder:
    """A folder that does not exist yet."""
    root = request.getfixturevalue("bucket" if request.param == "s3" else "tmp_path")
    return Folder(f"{root}/run")


def test_names_are_paths_below_it() -> None:
    folder = Folder("s3://bucket/run/")
    assert folder.uri_of("results/a.parquet") == "s3://bucket/run/results/a.parquet"
    assert folder.subfolder("results").uri_of("a.parquet") == "s3://bucket/run/results/a.parquet"
    assert pickle.loads(pickle.dumps(folder)).uri_of("a") == folder.uri_of("a")
    with pytest.raises(UserError, match="gs:// is not supported"):
        Folder("gs://bucket/run")


def test_sweeping_empties_the_scratch_folder_only(folder: Folder) -> None:
    folder.sweep()
    for name in ("_tmp/half.parquet.1", "results/whole.parquet"):
        folder.write(name, b"data")
    folder.subfolder("results").sweep()
    assert folder.list("_tmp") == []
    assert folder.read("results/whole.parquet") == b"data"
    assert folder.read_if_there("results/none") is None


def test_subfolders_are_written_through_the_scratch_folder_above(tmp_path: Path) -> None:
    Folder(str(tmp_path)).subfolder("manifest").write("a", b"data")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["_tmp", "manifest", "manifest/a"]


def test_a_folder_with_other_files_is_not_usable(folder: Folder) -> None:
    def check() -> None:
        folder.check_usable(lambda name: name in ("_tmp/", "ours"))

    check()
    folder.write("ours", b"")
    check()
    folder.write("other/deep/file", b"")
    with pytest.raises(UserError, match=r"run holds other files \(other\); give an empty or a new folder$"):
        check()


def test_a_missing_bucket_is_not_usable(bucket: str) -> None:
    with pytest.raises(UserError, match="NoSuchBucket"):
        Folder(f"{bucket}-not/run").check_usable(lambda name: True)


def test_a_file_a_dead_link_and_a_read_only_place_are_not_usable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("file", "file/below"):
        with pytest.raises(UserError, match=f"^{tmp_path}/file is a file; give a folder$"):
            Folder(str(tmp_path / path)).check_usable(lambda name: True)
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "gone").symlink_to("nowhere")
    for path in ("itself", "gone", "gone/below", "itself/below"):
        with pytest.raises(UserError, match=rf"^{tmp_path}/\w+ is a link that leads nowhere; give a folder[^\n]*$"):
            Folder(str(tmp_path / path)).check_usable(lambda name: True)
    with pytest.raises(UserError, match="is a link that leads nowhere"), Lease(f"{tmp_path}/gone"):
        pass
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere").symlink_to("folder")
    Folder(f"{tmp_path}/elsewhere/new").check_usable(lambda name: True)
    with pytest.raises(UserError, match=r"^/proc/self is not writable; give another folder"):
        Folder("/proc/self/new").check_usable(lambda name: True)
    with pytest.raises(UserError, match=r"\\udce9': the name is not UTF-8; rename it"):
        Folder(f"{tmp_path}/\udce9").check_usable(lambda name: True)
    Folder(str(tmp_path)).check_usable(lambda name: True)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "itself", "gone", "folder", "elsewhere"}
