"""Around Ray Train: which checkpoints there are, what is printed, whose fault a failure is (fits: test_train_job)."""

import json
from pathlib import Path

import pytest
from ray.exceptions import RayTaskError

from imagewizard.distributed import train_fit
from imagewizard.errors import UserError
from tests.support.training_runs import train_row, validation_row


def test_a_run_without_checkpoints(tmp_path: Path) -> None:
    assert train_fit.kept_checkpoints(str(tmp_path / "nothing")) == []
    (tmp_path / "run" / "checkpoints" / "step-00000500").mkdir(parents=True)  # copied, but never registered
    assert train_fit.latest_step(str(tmp_path / "run")) == 0


def write(run: Path, *rows: dict) -> None:
    with (run / "metrics.jsonl").open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def test_only_news_are_printed_and_each_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, train_row(10) | {"time": 100.0})
    follower = train_fit._Follower(str(tmp_path), 20)
    follower.print_news()
    assert capsys.readouterr().out == ""
    write(tmp_path, train_row(20) | {"time": 110.0}, validation_row(20) | {"time": 111.0})
    follower.print_news()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "step 20/" in lines[0] and "/20 " in lines[0] and "validation" in lines[1]
    follower.print_news()
    assert capsys.readouterr().out == ""


def test_the_users_mistake_is_found_in_what_ray_wraps_it_in() -> None:
    mistake = UserError("data.train: mend it")
    wrapped = RayTaskError("train", "a traceback", mistake)
    assert train_fit._user_error(wrapped) is mistake
    try:
        raise RuntimeError("outer") from mistake
    except RuntimeError as error:
        assert train_fit._user_error(error) is mistake
    assert train_fit._user_error(ValueError("a bug")) is None
