"""`imagewizard prepare` run from a shell."""

from pathlib import Path

import pytest

from jobs import prepare, shell
from tests.support.bsds500_files import write_bsds500


def test_prepare_prints_plan_and_outcome_then_finds_nothing_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bsds500(tmp_path / "set")
    words = ["bsds500", str(tmp_path / "out"), "--from", str(tmp_path / "set")]
    assert shell.run(prepare.main, [*words, "--dry-run"]) == shell.DONE
    plan = capsys.readouterr().out
    assert plan.startswith(f"from     {tmp_path}/set (the files stay there)\ninto     {tmp_path}/out")
    assert not (tmp_path / "out").exists()
    assert shell.run(prepare.main, words) == shell.DONE
    printed = capsys.readouterr().out
    assert printed.startswith(plan)
    for line in (
        " 400 images  {}/finetune.parquet",
        "  32 images  {}/val.parquet",
        "  68 images  {}/benchmark.parquet",
    ):
        assert line.format(tmp_path / "out") in printed
    assert shell.run(prepare.main, words) == shell.DONE
    again = capsys.readouterr().out
    assert again.startswith("from     nothing, for all is there\n")
    assert again.splitlines()[2:] == printed.splitlines()[2:]


def test_user_mistake_prints_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bsds500", str(tmp_path / "out"), "--from", "/nowhere"]
    assert shell.run(prepare.main, words) == shell.WRONG_INPUT
    assert capsys.readouterr().err.startswith("error: from: /nowhere: does not exist; ")
    assert not (tmp_path / "out").exists()


def test_default_source_is_berkeley(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run(prepare.main, ["bsds500", str(tmp_path / "out"), "--dry-run"]) == shell.DONE
    assert "https://www2.eecs.berkeley.edu/" in capsys.readouterr().out
