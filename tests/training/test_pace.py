"""Rates and times to go leave out what is no training: start-up and pauses."""

import pytest

from imagewizard.config.train import TrainTask
from imagewizard.training import pace
from imagewizard.training.pace import Pace, Window
from tests.support.training_parts import batch, config, trainer

TASK = TrainTask(config(), 8, [], 4, 1)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that tests set: now[0], in seconds."""
    seconds = [0.0]
    monkeypatch.setattr(pace.time, "perf_counter", lambda: seconds[0])
    return seconds


def test_the_first_step_of_a_process_and_what_precedes_it_count_for_nothing(now: list[float]) -> None:
    run = trainer(TASK.config)
    whole = Pace(run, batch_size=4)
    now[0] = 70.0  # images are read
    whole.pause(20.0)
    now[0] = 100.0  # the network is compiled
    whole.add_step()
    assert whole.started and (whole.images_per_second, whole.overhead) == (None, None)
    now[0] = 101.0
    run.busy_seconds += 0.75
    whole.add_step()
    assert (whole.images_per_second, whole.overhead) == (4.0, 0.25)
    now[0] = 111.0
    whole.pause(9.0)
    whole.add_step()
    assert whole.images_per_second == 4.0
    assert whole.seconds_left(10) == 55.0  # 2 steps and their pause took 11 s


def test_a_window_with_the_first_step_tells_its_loss_and_no_rate_of_it(now: list[float]) -> None:
    run = trainer(TASK.config, steps=10)
    whole = Pace(run, batch_size=4)
    first, window = Window(run, TASK, whole), Window(run, TASK, whole)
    now[0] = 60.0
    result = run.train_step([batch(TASK.config)])
    first.add(result)
    whole.add_step()
    row = first.row()
    assert row["loss"] == pytest.approx(result.terms["loss"], abs=1e-6)
    assert (row["step"], row["images_per_second"], row["overhead"], row["eta_seconds"]) == (1, None, None, None)
    window.add(result)
    now[0] = 62.0
    window.add(run.train_step([batch(TASK.config, 1)]))
    whole.add_step()
    row = window.row()
    assert (row["step"], row["images_per_second"], row["eta_seconds"]) == (2, 2.0, 16.0)  # 8 steps are left
    assert window.seconds == 2.0


def test_a_later_window_counts_all_its_steps(now: list[float]) -> None:
    run = trainer(TASK.config, steps=10)
    window = Window(run, TASK, Pace(run, batch_size=4, started=True))
    assert len(window) == 0
    for now[0] in (0.5, 1.0):
        window.add(run.train_step([batch(TASK.config, run.step)]))
    assert len(window) == 2 and window.row()["images_per_second"] == 8.0
