"""Around Ray Train: what is reported while it runs, whose fault a failure is (fits are in test_train_job.py)."""

import json
from pathlib import Path

from PIL import Image
from ray.exceptions import RayTaskError

from imagewizard.distributed import train_fit
from imagewizard.errors import UserError
from tests.support.training_runs import train_row, validation_row


def write(run: Path, *rows: dict) -> None:
    with (run / "metrics.jsonl").open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def test_only_news_are_reported_and_each_once(tmp_path: Path) -> None:
    lines: list[str] = []
    write(tmp_path, train_row(10) | {"time": 100.0})
    follower = train_fit.Follower(str(tmp_path), 20, lines.append)
    follower.report_news()
    assert lines == []
    write(tmp_path, train_row(20) | {"time": 110.0})
    follower.report_news()
    assert len(lines) == 1 and "step 20/" in lines[0] and "/20 " in lines[0]
    assert not (tmp_path / "curves.png").exists()
    write(tmp_path, validation_row(20) | {"time": 111.0})
    follower.report_news()
    assert len(lines) == 2 and "validation" in lines[1]
    assert Image.open(tmp_path / "curves.png").size == (1440, 900)
    follower.report_news()
    assert len(lines) == 2


def test_the_users_mistake_is_found_in_what_ray_wraps_it_in() -> None:
    mistake = UserError("broken", "mend it", "data.train")
    wrapped = RayTaskError("train", "a traceback", mistake)
    assert train_fit._user_error(wrapped) is mistake
    try:
        raise RuntimeError("outer") from mistake
    except RuntimeError as error:
        assert train_fit._user_error(error) is mistake
    assert train_fit._user_error(ValueError("a bug")) is None
