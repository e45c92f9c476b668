"""imagewizard bench: what it measures on, and what it prints."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagewizard.benchmarks import scale, throughput
from imagewizard.benchmarks.throughput import Rates
from jobs import bench, shell


@pytest.mark.parametrize("sizes", ["many", "10,", "0", "10,-5", ""])
def test_sizes_that_are_no_numbers_are_refused(sizes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run(bench.main, ["--scale", sizes]) == 2
    error = f"error: --scale: {sizes} is no list of numbers; give one or more, as 10000,100000"
    assert " ".join(capsys.readouterr().err.split()) == " ".join(error.split())


def test_each_size_is_a_column(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def measured(images: int, scratch: Path, start: object) -> scale.Cost:
        assert list(scratch.iterdir()) == []
        return scale.Cost(images, *[images / 10] * 11)  # type: ignore[arg-type]

    monkeypatch.setattr(scale, "measure", measured)
    assert bench.main(["--scale", "1000,20000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["images", "1,000", "20,000"]
    assert lines[1].split() == ["manifest_seconds", "100.00", "2,000.00"] and len(lines) == 12


def test_the_rates_are_printed_with_their_ratios(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[object, ...]] = []

    def measured(folder: str, *arguments: object) -> Rates:
        seen.append(arguments[:2])
        for path in sorted(Path(folder).iterdir()):
            with Image.open(path) as crop:
                assert crop.size == (64, 64)
                seen.append((path.name, np.asarray(crop).std() > 0))
        return Rates(8.0, 2.0, 10.0, 4.0)

    monkeypatch.setattr(throughput, "measure", measured)
    assert bench.main(["--count", "3", "--size", "64", "--sigma", "50"]) == 0
    assert seen == [(50.0, "embedded"), *((f"{number:05d}.jpg", True) for number in range(3))]
    out = capsys.readouterr().out
    assert "pipeline          8.00 images/s   (2.00 with start-up)" in out
    assert "pipeline / bare model = 0.80" in out and "pipeline / plain loop = 2.00" in out
