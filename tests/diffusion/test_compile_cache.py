"""What torch unpickles comes from a folder that no one else can write."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagewizard.diffusion import compile_cache


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the user's cache has the folder, which is not there yet."""
    monkeypatch.setenv(compile_cache.VARIABLE, "")  # so that what `use` sets is gone afterwards
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "imagewizard" / "compiled"


def test_the_folder_is_in_the_users_cache_and_theirs_alone(cache: Path) -> None:
    os.umask(old := os.umask(0))
    os.umask(0)
    try:
        assert compile_cache.use() == cache
    finally:
        os.umask(old)
    assert cache.stat().st_mode & 0o777 == 0o700
    assert os.environ[compile_cache.VARIABLE] == str(cache)
    assert compile_cache.use() == cache


def test_a_folder_of_the_users_choice_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compile_cache.VARIABLE, "/elsewhere")
    assert compile_cache.use() == Path("/elsewhere") and not cache.exists()


def test_torchs_own_choice_does_not_stay(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.runtime import cache_dir_utils

    monkeypatch.delenv(compile_cache.VARIABLE)
    cache_dir_utils.cache_dir()  # what an import of torch._dynamo calls
    assert os.environ[compile_cache.VARIABLE]
    assert compile_cache.use() == cache
    assert cache_dir_utils.cache_dir() == str(cache)


@pytest.mark.parametrize("what", ["open", "link", "file"])
def test_a_folder_that_others_may_fill_is_not_used(cache: Path, what: str, tmp_path: Path) -> None:
    cache.parent.mkdir()
    if what == "open":
        cache.mkdir()
        cache.chmod(0o777)
    elif what == "link":
        (tmp_path / "other").mkdir(mode=0o700)
        cache.symlink_to(tmp_path / "other")
    else:
        cache.touch()
    found = compile_cache.use()
    assert cache not in (found, *found.parents) and found.stat().st_mode & 0o777 == 0o700
    assert os.environ[compile_cache.VARIABLE] == str(found)


def test_a_folder_of_another_user_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: cache.stat().st_uid + 1)
    assert compile_cache.use() != cache


def test_a_temporary_folder_goes_with_the_process(tmp_path: Path) -> None:
    (tmp_path / "imagewizard").touch()  # nothing can be made below it
    code = "from imagewizard.diffusion import compile_cache; print(compile_cache.use(), compile_cache.use())"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path), compile_cache.VARIABLE: ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    first, second = map(Path, done.stdout.split())
    assert first == second and first.parent == tmp_path and not first.exists()
