"""`imagewizard manifest` run from a shell."""

from pathlib import Path

import pytest

from imagewizard import config
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.manifest import index
from imagewizard.storage import Folder
from jobs import manifest, shell


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("a.png", "b/c.jpg", "b/d.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"12345")
    return tmp_path / "in"


def test_second_run_lists_only_with_refresh(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(source), "--out", str(tmp_path / "m")]
    plan = f"from     {source}\ninto     {tmp_path}/m\nfilters  none\n"
    assert shell.run(manifest.main, [*words, "--dry-run"]) == shell.DONE
    assert capsys.readouterr().out == plan
    assert not (tmp_path / "m").exists()

    assert shell.run(manifest.main, words) == shell.DONE
    printed = capsys.readouterr().out
    assert printed.startswith(f"{plan}left out 1: no image by its suffix (b/d.txt)\n2 images, 10 bytes, 1 shards; ")
    assert printed.endswith(f" files/s; in {tmp_path}/m\n")
    before = {path: path.read_bytes() for path in (tmp_path / "m").iterdir() if path.is_file()}
    listed_at = index.read(str(tmp_path / "m")).listed_at

    (source / "e.png").touch()
    assert shell.run(manifest.main, words) == shell.DONE
    said = f"2 images, 10 bytes, 1 shards, listed at {listed_at}; --refresh lists again\n"
    assert capsys.readouterr().out == plan + said
    assert {path: path.read_bytes() for path in before} == before

    assert shell.run(manifest.main, [*words, "--refresh"]) == shell.DONE
    printed = capsys.readouterr().out
    assert "since the last listing 1 images are new, 0 are gone, 0 have changed in size\n3 images" in printed


def test_filters_reach_the_listing(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(source), "--out", str(tmp_path / "m"), "--suffix", ".png", ".jpg", "--glob", "b/*", "--min-bytes", "5"]
    assert shell.run(manifest.main, [*words, "--max-bytes", "6"]) == shell.DONE
    printed = capsys.readouterr().out
    assert "filters  suffix .png .jpg, at least 5 bytes, at most 6 bytes, name like b/*\n" in printed
    assert "1 images were left out by the filters\n1 images, 5 bytes" in printed


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["/nowhere"], "error: /nowhere does not exist; "),
        (["{}", "--suffix", ".heic"], "error: --suffix: "),
        (["{}", "--out", "{}"], "error: --out: "),
        (["s3://no-such-bucket-at-all/x"], "NoSuchBucket"),
    ],
)
def test_user_mistake_prints_one_line_and_writes_nothing(
    source: Path, tmp_path: Path, words: list[str], complaint: str, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--out", str(tmp_path / "m"), *[word.format(source) for word in words]]
    assert shell.run(manifest.main, words) == shell.WRONG_INPUT
    stderr = capsys.readouterr().err
    assert complaint in stderr and stderr.count("\n") == 1
    assert not (tmp_path / "m").exists()


def test_manifest_is_an_input_of_a_bulk_job(source: Path, tmp_path: Path) -> None:
    from imagewizard.manifest import shards

    assert manifest.main([str(source), "--out", str(tmp_path / "m")]) == shell.DONE
    job = config.load(DenoiseConfig, None, [f"input={tmp_path}/m", f"output={tmp_path}/run"])
    shards.check_source(job.input)
    assert shards.write(job.output, job.input, None).images == 2


def test_an_empty_object_of_the_prefixs_name_is_the_mark_of_a_folder(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, data in (("mark", b""), ("mark/a.png", b"12345")):
        Folder(bucket).write(name, data)
    for source in (f"{bucket}/mark/", f"{bucket}/mark"):
        assert shell.run(manifest.main, [source, "--out", f"{tmp_path}/m"]) == shell.DONE
        assert "1 images, 5 bytes, 1 shards" in capsys.readouterr().out
