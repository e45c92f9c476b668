"""The stand-in for the model sleeps for each image, wherever Ray sends it."""

import pickle
import subprocess
import sys

import pytest
from ray import cloudpickle

from imagewizard.benchmarks import stand_in


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr(stand_in.time, "sleep", seconds.append)
    return seconds


def test_it_sleeps_once_for_all_images_and_gives_them_back(slept: list[float]) -> None:
    noisy = [object(), object(), object()]
    assert stand_in.sleep(4.0, noisy, [25.0] * 3) == noisy
    assert slept == [pytest.approx(0.012)]


def test_the_bare_rate_counts_the_images_of_all_devices(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 12.0])
    monkeypatch.setattr(stand_in.time, "perf_counter", lambda: next(ticks))
    rate = stand_in.bare_rate(10.0, devices=3)
    assert len(slept) == 3 * 12, "12 or 13 calls of 160 ms take 2 s"
    assert rate == 3 * 12 * stand_in.CALL_IMAGES / 2.0


def test_a_bare_loop_never_beats_what_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "BARE_SECONDS", 0.1)
    assert 0 < stand_in.bare_rate(1.0, devices=2) <= 2000


def test_the_actor_keeps_its_time_in_another_process() -> None:
    sent = cloudpickle.dumps(stand_in.actor(7.0))  # as Ray sends it
    code = (
        "import pickle, sys; from imagewizard.bulk import block_denoiser as module\n"
        "module.BlockDenoiser = lambda config, denoiser: (config, denoiser.args)\n"
        "print(pickle.loads(sys.stdin.buffer.read()).load(None, 'config'))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "('config', (7.0,))"
    assert pickle.loads(sent) is not stand_in.actor(7.0)
