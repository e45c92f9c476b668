"""imagewizard train: a dry run prints the plan; a mistake is one line, exit code 2 and no file."""

import sys
from pathlib import Path
from typing import TextIO

import pytest

from imagewizard.distributed import train_job
from imagewizard.errors import JobError
from jobs import shell, train
from tests.support.models import tiny_model
from tests.support.training_jobs import write_photographs


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Of a training that can run."""
    photographs = write_photographs(tmp_path / "photographs")
    return [
        f"data.train={photographs}/train",
        f"data.validation={photographs}/validation",
        f"output={tmp_path}/run",
        f"model={tiny_model(tmp_path / 'model')}",
        "data.crop=16",
        "optimizer={epochs: 1, batch_size: 4, learning_rate: 1e-4}",
    ]


def test_dry_run_prints_the_plan_and_writes_nothing(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell.run(train.main, [*words, "--dry-run"]) == shell.DONE
    plan = capsys.readouterr().out
    assert f"{tmp_path}/photographs/train" in plan and f"{tmp_path}/run" in plan
    assert "images   7 to train on, 3 to validate with\nnot used: broken.png: " in plan
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("data.trian=photos", "data.trian: unknown key; did you mean train?"),
        ("data.train=/nowhere", "data.train: /nowhere does not exist"),
        ("model=/nowhere", "model: /nowhere is no folder"),
        ("optimizer.epochs=0", "optimizer.epochs: "),
    ],
)
def test_mistake_is_one_line_and_writes_nothing(
    words: list[str], tmp_path: Path, word: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell.run(train.main, [*words, word]) == shell.WRONG_INPUT
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {complaint}") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_end_of_stdouts_reader_does_not_keep_it_from_training(
    words: list[str], unread: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(*arguments: object) -> None:
        raise JobError("the training has begun")

    monkeypatch.setattr(train_job, "execute", execute)
    monkeypatch.setattr(sys, "stdout", unread)
    assert shell.run(train.main, words) == shell.BROKE
