"""The progress line tells what is done, what failed and how long it will take."""

import sys
import time

import pytest

from imagewizard import progress
from imagewizard.gpu_usage import GpuUsage
from imagewizard.progress import Printer, Progress, Repeater, clock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that tests set: now[0], in seconds."""
    time = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def test_line_and_rates(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(total=100, done=20, failed=1, report=Printer()) as bar:
        now[0] = 7.0
        assert bar.line() == "20/100 images  1 failed  workers are starting, 0:07"
        now[0] = 90.0
        bar.add(10, failed=2, seconds=5.0)
        assert bar.steady_rate is None
        assert bar.line() == "30/100 images  3 failed  2.0 images/s  ETA 0:35"  # the 85 s of start-up are left out
        now[0] = 100.0
        bar.add(30, failed=0, seconds=6.0)
        assert bar.line() == "60/100 images  3 failed  2.7 images/s  ETA 0:15"
        assert bar.steady_rate == 3.0  # from the first commit on: 30 rows in 10 s
        now[0] = 105.0
        bar.add(40, failed=0, seconds=8.0)
    assert capsys.readouterr().out == "100/100 images  3 failed  4.0 images/s  took 1:45, 1:25 of it start-up\n"
    assert (bar.rows, bar.seconds, bar.rate) == (80, 105.0, 80 / 105)


def test_a_job_of_two_minutes_never_speaks_of_half_an_hour(now: list[float]) -> None:
    """Two workers start within 80 s, and then restore 4 blocks of 16 images in 10 s each."""
    bar = Progress(total=64, done=0, failed=0)
    lines = []
    for now[0] in (90.0, 90.5, 100.0, 100.5):
        bar.add(16, failed=0, seconds=10.0)
        lines.append(bar.line())
    assert lines == [
        "16/64 images  0 failed  1.6 images/s  ETA 0:30",
        "32/64 images  0 failed  3.0 images/s  ETA 0:10",
        "48/64 images  0 failed  2.4 images/s  ETA 0:07",
        "64/64 images  0 failed  3.1 images/s  took 1:40, 1:20 of it start-up",
    ]


def test_work_begins_with_the_earliest_block_whatever_comes_first(now: list[float]) -> None:
    bar = Progress(total=10, done=0, failed=0)
    now[0] = 30.0
    bar.add(1, failed=0, seconds=1.0)
    bar.add(1, failed=0, seconds=10.0)
    assert bar.recent_rate == 0.2
    bar.add(1, failed=0, seconds=99.0)  # a clock of another machine: work cannot begin before the job
    assert bar.recent_rate == 0.1


def test_blocks_that_take_no_time_have_no_rate(now: list[float]) -> None:
    bar = Progress(total=4, done=0, failed=0)
    bar.add(2, failed=0, seconds=0.0)
    assert bar.line() == "2/4 images  0 failed"
    bar.add(2, failed=0, seconds=0.0)
    assert bar.line() == "4/4 images  0 failed  took 0:00"


def test_eta_is_computed_from_the_last_minute(now: list[float]) -> None:
    bar = Progress(total=10_000, done=0, failed=0)
    for now[0], rows in ((10.0, 1), (20.0, 1000), (70.0, 10), (100.0, 10), (130.0, 10)):
        bar.add(rows, failed=0, seconds=5.0)
    # of the last 60 s: 20 rows since the commit at 70 s, and 8,969 to go
    assert bar.line() == "1031/10000 images  0 failed  0.3 images/s  ETA 7:28:27"


def test_blocks_longer_than_a_minute_give_a_rate_of_several(now: list[float]) -> None:
    bar = Progress(total=1000, done=0, failed=0)
    for round_ in range(1, 4):  # four workers, a block each 90 s
        for worker in range(4):
            now[0] = 90.0 * round_ + worker
            bar.add(9, failed=0, seconds=90.0)
    assert bar.recent_rate == pytest.approx(0.4, rel=0.25)


def test_a_terminal_gets_a_bar_that_stays_in_place(
    now: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    with Progress(total=100, done=0, failed=0, report=Printer()) as bar:
        now[0] = 10.0
        bar.add(50, failed=0, seconds=10.0)
        assert bar.bar() == f"{'█' * 12}{'░' * 12}  50 %  50/100 images  0 failed  5.0 images/s  ETA 0:10"
        monkeypatch.setenv("COLUMNS", "60")
        assert bar.bar() == bar.line()  # no room
    assert capsys.readouterr().out.endswith("\r\x1b[K50/100 images  0 failed  5.0 images/s  ETA 0:10\n")


def test_any_reporter_gets_lines_and_the_last_one_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.01)
    lines: list[str] = []
    with Progress(total=2, done=0, failed=0, report=lines.append) as bar:
        while len(lines) < 2:
            time.sleep(0.01)
        bar.add(2, failed=0, seconds=0.1)
    assert "workers are starting" in lines[0] and lines[-1].startswith("2/2 images  0 failed")


def test_nothing_is_printed_where_no_reporter_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(total=2, done=0, failed=0) as bar:
        bar.add(2, failed=0, seconds=0.1)
    assert capsys.readouterr().out == ""


def test_a_repeated_line_ends_with_its_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.01)
    lines: list[str] = []
    with Repeater(lines.append, lambda: "line", lambda: "bar"):
        while not lines:
            time.sleep(0.01)
    count = len(lines)
    time.sleep(0.05)
    assert len(lines) == count and set(lines) == {"line"}


def test_a_session_that_did_nothing_has_no_rate() -> None:
    bar = Progress(total=5, done=5, failed=0)
    assert (bar.rows, bar.seconds, bar.rate, bar.steady_rate) == (0, 0.0, 0.0, None)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (99.4, "1:39"), (3599.6, "1:00:00"), (7384, "2:03:04")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_gpu_is_shown_while_the_job_goes_on() -> None:
    with Progress(4, 0, 0) as progress:
        progress.gpus.add(GpuUsage("NVIDIA H100", 61_200_000_000, 85_500_000_000, 0.97))
        progress.add(2, 0, 1.0)
        assert progress.line().endswith("  NVIDIA H100  61.2/85.5 GB  97 %")
        progress.add(2, 0, 1.0)
        assert "H100" not in progress.line()
