"""python cluster/sizing.py: the rates of a core, and what follows for a GPU."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import sizing

SCRIPT = Path(__file__).resolve().parents[2] / "cluster" / "sizing.py"


def test_a_rate_counts_cpu_time_and_not_waiting() -> None:
    def work() -> None:
        time.sleep(0.02)
        sum(range(20_000))

    assert sizing.rate(work, 0.005) > 100


def test_a_row_has_the_rates_and_cores_in_proportion_to_the_pixels() -> None:
    data = sizing.samples()["500x375.jpg"]
    name, size, decode, jpg, png, gpu, *cores = sizing.row("a photo.jpg", data, 1000.0, 0.02).rsplit(maxsplit=8)
    assert (name, int(size)) == ("a photo.jpg", round(len(data) / 1000))
    images = 1000 * 256 * 256 / (500 * 375)
    assert int(gpu) == round(images)
    for rate, needed in zip((decode, jpg, png), cores, strict=True):
        expected = images / int(rate)
        assert float(needed) == pytest.approx(expected, abs=0.06 + expected * 0.6 / int(rate))  # both are rounded


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    done = subprocess.run([sys.executable, SCRIPT, tmp_path / "text.jpg"], capture_output=True, text=True)
    assert done.returncode == 2 and "text.jpg" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_pages_tables_follow_from_its_rates() -> None:
    page = (SCRIPT.parent / "README.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    steps = {row[0].split(",")[0]: float(row[1]) for row in rows if len(row) == 3 and re.fullmatch(r"[\d.]+", row[1])}
    reading = steps["together"]
    assert sum(list(steps.values())[:3]) == pytest.approx(reading)
    cores = [[float(cell) for cell in row[1:]] for row in rows if len(row) == 5 and row[0].startswith("H100")]
    costs = [row for row in rows if len(row) == 6 and row[0].startswith("H100")]
    assert len(cores) == len(costs) == 2
    for (rate, *needed), (_, again, measured, gpu, core, cost) in zip(cores, costs, strict=True):
        wanted = [rate * ms / 1000 for ms in (reading, steps["encode a JPEG"], steps["encode a PNG"])]
        assert needed == pytest.approx(wanted, abs=0.051)
        assert (float(again), measured) == (rate, "measured here")
        assert float(gpu) == pytest.approx(1e6 / rate / 3600, abs=0.0005)
        assert float(core) == pytest.approx(1e6 * reading / 3.6e6, abs=0.005)
        assert cost == f"{gpu} × GPU + {core} × CORE"
