"""A training ends after its steps or at its time limit; the decay follows the spent share."""

import itertools
import subprocess
import sys
import time

import pytest

from imagewizard.training.budget import Deadline, Steps, process_started


def test_steps() -> None:
    budget = Steps(110)
    assert [budget.progress(step) for step in (0, 55, 110, 120)] == [0.0, 0.5, 1.0, 1.0]
    assert [budget.progress(step, start=10) for step in (10, 60, 110)] == [0.0, 0.5, 1.0]
    assert [budget.is_spent(step) for step in (0, 109, 110)] == [False, False, True]
    assert budget.steps(3) == 110


def test_deadline() -> None:
    now = [1000.0]
    budget = Deadline(1100.0, 110.0, lambda: now[0])
    assert budget.progress(0) == 0.0 and not budget.is_spent(0)
    now[0] = 1020.0
    assert budget.progress(10) == pytest.approx(0.2) and budget.steps(10) == 50
    assert budget.progress(10, start=10) == 0.0  # from the end of the warm-up on
    now[0] = 1060.0
    assert budget.progress(30, start=10) == pytest.approx(0.5)
    now[0] = 1100.0
    assert budget.is_spent(50) and budget.progress(50) == 1.0 and budget.steps(50) == 50


def test_a_shared_clock_is_read_twice_a_second_or_so() -> None:
    """Of a run at 1,000 steps a second, later at 100."""
    now, read = [1000.0], []

    def clock() -> float:
        read.append(now[0])
        return now[0]

    budget = Deadline(1100.0, 105.0, clock, pause=0.5)
    step, ended = 0, 0
    while not ended:
        budget.progress(step)
        budget.progress(step, start=10)
        now[0] += 0.001 if now[0] < 1050.0 else 0.01
        step += 1
        ended = step if budget.is_spent(step) else 0
    assert len(read) < 300 and now[0] < 1101.0
    between = [later - earlier for earlier, later in itertools.pairwise(read)]
    assert max(between) < 5.1 and sorted(between)[-2] < 1.0  # long once: where it falls


def test_a_resumed_run_goes_on_with_its_decay() -> None:
    """Of 400 s, 300 were spent on 900 steps before."""
    now = [1000.0]
    budget = Deadline(1100.0, 400.0, lambda: now[0])
    assert budget.progress(900) == budget.progress(900, start=100) == pytest.approx(0.75)
    assert budget.steps(900) == 1200
    now[0] = 1050.0
    assert budget.progress(1050) == pytest.approx(0.875) and budget.steps(1050) == 1200


def test_process_began_before_its_imports() -> None:
    code = (
        "import time; time.sleep(1.0); import imagewizard.training.budget as budget; "
        "print(time.time() - budget.process_started())"
    )
    started = time.time()
    found = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 1.0 <= found <= time.time() - started + 0.1
    assert process_started() < time.time()
