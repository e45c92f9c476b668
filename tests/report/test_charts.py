"""Charts: bars, dots and lines are where the axes say."""

import numpy as np
import pytest

from imagewizard.report import charts
from imagewizard.report.charts import Bins, Curve, Dot


@pytest.mark.parametrize(
    ("least", "step"), [(0.03, 0.05), (0.1, 0.1), (1.0, 1), (1.01, 2), (2.2, 5), (7, 10), (300, 500)]
)
def test_steps_are_round(least: float, step: float) -> None:
    assert charts.nice_step(least) == pytest.approx(step)


def test_bars_and_dots_stand_where_the_axis_says() -> None:
    svg = str(charts.histogram({"σ 25": Bins({-1: 2, 0: 4, 3: 1}, 0.5)}, 0.5, "title", "gain"))
    assert svg.count("<rect") == 3
    for hint in ("−0.5 to 0: 2", "0 to 0.5: 4", "1.5 to 2: 1"):
        assert f"<title>{hint}</title>" in svg
    heights = [float(part.partition('"')[0]) for part in svg.split(' height="')[1:]]
    assert heights[0] / heights[1] == pytest.approx(0.5, abs=0.01)
    dots = [Dot(0, 14.0, 26.0, 1), Dot(1, 20.0, 30.0, 9)]
    svg = str(charts.scatter(dots, ["σ 50", "σ 25"], "title", "x", "y"))
    first, second = (dict(part.split("=") for part in circle.split(" ")[1:5]) for circle in svg.split("<circle")[1:])
    assert first["class"] == '"s0"' and second["class"] == '"s1"'
    assert float(first["cx"][1:-1]) < float(second["cx"][1:-1]) and float(first["cy"][1:-1]) > float(second["cy"][1:-1])


def points(svg: str, kind: str) -> list[tuple[float, float]]:
    """Where a line of this class goes, in SVG units."""
    line = svg.partition(f'<polyline class="{kind}" points="')[2].partition('"')[0]
    return [tuple(map(float, point.split(","))) for point in line.split()]  # type: ignore[misc]


def test_lines_go_where_the_axes_say() -> None:
    falling = Curve("loss", [(0, 1.0), (50, 0.1), (100, 0.01)], [(0, 2.0), (100, 0.005)])
    svg = str(charts.lines([falling], 100, [25], "title", "step", is_log=True))
    (x0, y0), (x1, y1), (x2, y2) = points(svg, "l0")
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.1) and y1 - y0 == pytest.approx(y2 - y1, abs=0.1) and y1 > y0
    assert points(svg, "l0 raw")[0] == (x0, pytest.approx(y0 - (y1 - y0) * np.log10(2), abs=0.2))
    assert f'<line class="mark" x1="{(x0 + x1) / 2:.1f}"' in svg
    ticks = [float(part.partition("<")[0]) for part in svg.split('text-anchor="end">')[1:]]
    assert ticks == [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]
    svg = str(charts.lines([Curve("σ 25", [(0, 30.0), (100, 31.0)])], 200, [], "title", "step"))
    (x0, y0), (x1, y1) = points(svg, "l0")
    assert x1 < 300 and y1 < y0 and svg.count("<circle") == 2


def test_a_narrow_logarithmic_axis_has_ticks_too() -> None:
    svg = str(charts.lines([Curve("loss", [(0, 0.061), (9, 0.063)])], 9, [], "title", "step", is_log=True))
    assert svg.count('class="grid"') >= 3


def test_labels_of_lines_that_end_together_do_not_overlap() -> None:
    curves = [Curve(name, [(0, 40.0), (9, 30.0 + number / 100)]) for number, name in enumerate("abcd")]
    svg = str(charts.lines(curves, 9, [], "title", "step"))
    labels = [float(part.rpartition(' y="')[2].partition('"')[0]) for part in svg.split("</text>")
              if part.endswith((">a", ">b", ">c", ">d"))]  # fmt: skip
    assert len(labels) == 4 and np.abs(np.diff(sorted(labels))).min() >= 17
    assert max(labels) <= charts.FLOOR + 4
    assert labels == sorted(labels, reverse=True)  # in the order of their lines
