"""The times of a stage add up, those of each thread's work too."""

import threading

import pytest

from imagewizard.bulk import stage_times
from imagewizard.bulk.stage_times import StageTimes


def test_the_times_of_a_stage_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 11.0, 20.0, 20.5])
    monkeypatch.setattr(stage_times.time, "perf_counter", lambda: next(clock))
    cpu = iter([1.0, 1.25, 3.0, 3.5])
    monkeypatch.setattr(stage_times.time, "thread_time", lambda: next(cpu))
    times = StageTimes({"read": 2.0})
    for _ in range(2):
        with times.timed("decode"):
            pass
    assert times.as_json() == {"wall": {"read": 2.0, "decode": 1.5}, "cpu": {"decode": 0.75}}
    assert StageTimes(**times.as_json()).as_json() == times.as_json()


def test_a_stage_within_another_counts_for_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 1.5, 3.0, 3.25, 10.0, 20.0, 21.0])
    monkeypatch.setattr(stage_times.time, "perf_counter", lambda: next(clock))
    times = StageTimes()
    with times.timed("noise"):
        for _ in range(2):
            with times.timed("score"):
                pass
    with times.timed("score"):
        pass
    assert times.wall == {"noise": 10.0 - 0.5 - 0.25, "score": 0.5 + 0.25 + 1.0}
    assert list(times.wall) == list(times.cpu) == ["noise", "score"], "as they began"


def test_a_threads_cpu_is_its_own() -> None:
    """A thread that waits while another one works has used no CPU, but its time."""
    times, stop = StageTimes(), threading.Event()

    def work() -> None:
        while not stop.is_set():
            sum(range(1000))

    busy = threading.Thread(target=work)
    busy.start()
    with times.timed("wait"):
        stop.wait(0.3)
    stop.set()
    busy.join()
    assert times.wall["wait"] >= 0.3 and times.cpu["wait"] < 0.1


def test_each_stage_is_told_before_it_begins() -> None:
    said: list[str] = []
    times = StageTimes(on_stage=said.append)
    with times.timed("read"):
        assert said == ["read"]
    whole = StageTimes({"read": 1.0})
    whole.add(times)
    assert whole.wall["read"] > 1.0 and whole.cpu.keys() == {"read"} and said == ["read"]
