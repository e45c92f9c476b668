"""What of a folder is sent to a cluster, and what is not."""

import os
import zipfile
from pathlib import Path

import pytest

from imagewizard.distributed import package
from imagewizard.errors import UserError


def write(folder: Path, *names: str, size: int = 3) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * size)


def test_versions_environments_data_runs_and_secrets_stay_at_home(tmp_path: Path) -> None:
    write(tmp_path, "my.yaml", "code/a.py", "code/data/table.csv", "notes/runs/b.txt")
    write(
        tmp_path, ".git/config", ".venv/bin/python", "data/a.png", "runs/x/results/0.parquet", "code/__pycache__/a.pyc"
    )
    write(tmp_path, ".env", ".env.local", ".netrc", "keys/id.pem", ".aws/credentials", "code/.mypy_cache/x")
    write(tmp_path, "elsewhere/run/job.yaml", "elsewhere/run/results/0.parquet", "elsewhere/run/manifest/s0.parquet")
    write(tmp_path, "configs/job.yaml")
    sent = package.collect(tmp_path)
    assert sent.files == ("code/a.py", "code/data/table.csv", "configs/job.yaml", "my.yaml", "notes/runs/b.txt")
    assert sent.size == 15
    assert str(sent) == f"{tmp_path}: 5 files, 0.0 kB, without data, runs and what .gitignore names"


def test_ignore_files_count_from_where_they_lie(tmp_path: Path) -> None:
    write(tmp_path, "a.log", "keep.log", "sub/a.log", "sub/own.txt", "other/own.txt", "data/needed.txt")
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n")
    (tmp_path / ".rayignore").write_text("!/data/\n/.*ignore\n")
    (tmp_path / "sub" / ".gitignore").write_text("/own.txt\n.gitignore\n")
    assert package.collect(tmp_path).files == ("data/needed.txt", "keep.log", "other/own.txt")


def test_links_that_lead_out_of_the_folder_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "home", "a.py", "lib/b.py")
    write(tmp_path, "secret.txt")
    for name, target in {
        "out": "../secret.txt",
        "file": "a.py",
        "folder": "lib",
        "up": ".",
        "dead": "nowhere",
        "lib/loop": "../lib",
    }.items():
        (tmp_path / "home" / name).symlink_to(target)
    assert package.collect(tmp_path / "home").files == ("a.py", "file", "folder/b.py", "lib/b.py")


@pytest.mark.parametrize(("limit", "value"), [("MAX_BYTES", 30), ("MAX_FILES", 3)])
def test_an_absurd_folder_is_refused_and_names_what_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(package, limit, value)
    write(tmp_path, "a/1", "a/2", "a/3")
    assert len(package.collect(tmp_path).files) == 3
    write(tmp_path, "z/large", size=40)
    with pytest.raises(UserError, match=rf"^{tmp_path} holds more than .* too much to send \(z 0.0 kB, a 0.0 kB"):
        package.collect(tmp_path)


def test_no_folder_and_an_unreadable_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        package.collect(tmp_path / "nowhere")
    write(tmp_path, "a")
    sent = package.collect(tmp_path)
    (tmp_path / "a").unlink()
    with pytest.raises(UserError, match="No such file"):
        package.write(sent, tmp_path / "p.zip", {})


def test_the_archive_holds_the_files_and_is_the_same_each_time(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.py", "sub/run.sh")
    (tmp_path / "in" / "sub" / "run.sh").chmod(0o755)
    sent = package.collect(tmp_path / "in")
    for name in ("1.zip", "2.zip"):
        package.write(sent, tmp_path / name, {"a.py": b"newer", ".imagewizard/c.yaml": b"seed: 1"})
        os.utime(tmp_path / "in" / "a.py", (1, 1))
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.namelist() == ["sub/run.sh", "a.py", ".imagewizard/c.yaml"]
        assert archive.read("a.py") == b"newer"
        assert archive.getinfo("sub/run.sh").external_attr >> 16 & 0o111
