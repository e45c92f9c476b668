"""gpu_check runs its steps in order, skips steps that do not fit in the time, and writes its results."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagewizard.benchmarks import gpu_check
from imagewizard.benchmarks.gpu_check import MARGIN_SECONDS, Results, run_all
from imagewizard.benchmarks.step import Step


class Clock:
    """A clock that advances by each step's estimated duration."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def step(self, name: str, seconds: float, fails: bool = False) -> Step:
        def run() -> dict[str, object]:
            self.now += seconds
            if fails:
                raise ValueError(f"{name} is broken")
            return {"rate": seconds, "curve": [1, 2]}

        return Step(name, run, lambda: seconds)


def test_steps_run_in_order_and_skipped_ones_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock, out = Clock(), tmp_path / "out" / "check.json"
    steps = [clock.step("first", 10), clock.step("long", 50), clock.step("short", 5)]
    assert run_all(steps, Results(out), deadline=30.0 + MARGIN_SECONDS, clock=clock)
    found = json.loads(out.read_text())
    assert list(found) == ["first", "long", "short"]
    assert found["first"] == {"rate": 10, "curve": [1, 2], "seconds": 10.0}
    assert found["long"] == {"not run": "takes about 50 s, 20 s are left"}
    printed = capsys.readouterr().out
    assert "not run" in printed and "1 2" in printed


def test_error_ends_the_check_and_results_are_kept(tmp_path: Path) -> None:
    clock, out = Clock(), tmp_path / "check.json"
    steps = [clock.step("first", 1), clock.step("second", 1, fails=True), clock.step("third", 1)]
    assert not run_all(steps, Results(out), deadline=100.0, clock=clock)
    found = json.loads(out.read_text())
    assert list(found) == ["first", "second", "third"] and "second is broken" in found["second"]["failed"]
    assert found["third"] == {"not run": "second failed"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--bsds500", "nowhere"], "--bsds500 and --vgg19 go together"),
        (["--bsds500", "nowhere", "--vgg19", "a.pth"], "--bsds500: nowhere has no folder train; give one with train/"),
        (["--bsds500", "{folder}", "--vgg19", "nowhere.pth"], "--vgg19: nowhere.pth does not exist; give a file"),
    ],
)
def test_options_that_cannot_work(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val", "test"):
        (tmp_path / split).mkdir()
    with pytest.raises(SystemExit) as ended:
        gpu_check.main([word.format(folder=tmp_path) for word in words])
    assert ended.value.code == 2 and told in capsys.readouterr().err


@pytest.mark.long
def test_small_form_without_a_gpu(tmp_path: Path) -> None:
    """Runs it like a user, for some 20 s: slow steps are skipped and shown."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import imagewizard.benchmarks.gpu_steps"], check=True, env=environment)
    minutes = (2 * (time.monotonic() - began) + 13) / 60  # the imports, two steps that ask for 5 s, and the margin
    out = tmp_path / "check.json"
    words = ["-m", "imagewizard.benchmarks.gpu_check", "--minutes", str(minutes), "--out", str(out)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert list(found) == [
        "device", "generator", "bulk job's steps", "bfloat16", "embedded", "celebahq-256", "pipeline embedded",
        "pipeline celebahq-256", "train embedded", "train celebahq-256", "loop", "recipe", "train compiled",
        "embedded compiled", "celebahq-256 compiled",
    ]  # fmt: skip
    assert found["recipe"] == {"not run": "give --bsds500 and --vgg19"}
    assert found["device"]["matrix product, TFLOP/s"] > 0
    assert found["generator"]["eager, 4 words: numpy's bits"] and found["generator"]["eager, 256 words: numpy's bits"]
    assert "not run" in found["train compiled"]
