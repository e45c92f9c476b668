"""Charts as inline SVG. Colours are the page's CSS variables; labels say what colours show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

WIDTH, LEFT, RIGHT = 520, 58, 14  # SVG units; a phone shows 520 of them on some 360 pixels
PLOT = WIDTH - LEFT - RIGHT
FLOOR = 314  # y of the x axis, the same in all plots
STRIP_GAP = 24  # for the mean's label
LEAST_RANGE = 2.0  # dB: a shorter axis would magnify differences that mean nothing
LEAST_DECADES = 0.3  # the same for a logarithmic axis: a factor of two
LABEL_HEIGHT = 18
DOTTED = 40  # curves of at most this many points show them as dots; a single point would be invisible otherwise
LABELS = 112  # room to the right of a plot for its lines' labels
SERIES = 6  # colours of the page; further series use them again


class Bins(NamedTuple):
    """A histogram: bin number → count, and the mean of what was counted; bin n is [n, n + 1) · step."""

    counts: dict[int, int]
    mean: float


class Dot(NamedTuple):
    """Rows that are so close together that one dot stands for them."""

    series: int
    x: float
    y: float
    rows: int


class Curve(NamedTuple):
    """A line through (x, y) with rising x. `raw`, drawn faintly, is the curve that the line smooths; () for none."""

    label: str
    points: Sequence[tuple[float, float]]
    raw: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Axis:
    """A linear scale from values onto SVG units, `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """At most about `most` round values within the scale."""
        step = nice_step((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(number * step, 10) for number in range(first, last + 1)]


def nice_step(least: float) -> float:
    """The smallest of …, 0.1, 0.2, 0.5, 1, 2, 5, … that is at least `least` (> 0)."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(round(factor * power, 10) for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def histogram(facets: dict[str, Bins], step: float, title: str, x_label: str) -> Markup:
    """A strip for each facet (a noise level) over a shared x axis; each is scaled to its own highest bin."""
    numbers = [number for bins in facets.values() for number in bins.counts]
    x = Axis(min(numbers) * step, (max(numbers) + 1) * step, LEFT, LEFT + PLOT)
    height = max(40, (FLOOR - 8) // len(facets) - STRIP_GAP)
    parts = []
    floor = 8
    for series, (label, bins) in enumerate(facets.items()):
        floor += STRIP_GAP + height
        parts += _strip(series, label, bins, step, x, floor, height)
    return _svg(floor + 46, title, [*parts, *_x_axis(x, floor, x_label)])


def _strip(series: int, label: str, bins: Bins, step: float, x: Axis, floor: int, height: int) -> list[str]:
    most, top, mean = max(bins.counts.values()), floor - height, min(max(bins.mean, x.low), x.high)
    y = Axis(0, most, floor, top)
    parts = [_line("axis", LEFT, floor, LEFT + PLOT, floor)]
    for number, count in sorted(bins.counts.items()):
        left, right = x(number * step), x((number + 1) * step)
        hint = f"{_plain(number * step)} to {_plain((number + 1) * step)}: {count:,}"
        parts.append(
            f'<rect class="s{series % SERIES}" x="{left + 0.5:.1f}" width="{max(right - left - 1, 0.5):.1f}" '
            f'y="{y(count):.1f}" height="{floor - y(count):.1f}"><title>{hint}</title></rect>'
        )
    parts.append(_line("mean", x(mean), top - 4, x(mean), floor))
    parts.append(_text(x(mean), top - 8, f"mean {bins.mean:.2f}", "middle", "halo"))
    parts.append(_text(LEFT - 8, floor - 4, label, "end"))
    parts.append(_text(LEFT - 8, top + 10, _short(most), "end", "faint"))
    return parts


def scatter(dots: Sequence[Dot], labels: Sequence[str], title: str, x_label: str, y_label: str) -> Markup:
    """Dots, each series with a label above it; dots on the dashed line y = x have gained nothing."""
    x = _padded([dot.x for dot in dots], LEFT, LEFT + PLOT)
    y = _padded([dot.y for dot in dots] + [min(dot.x for dot in dots)], FLOOR, 30)
    most = max(dot.rows for dot in dots)
    parts = []
    for tick in y.ticks(7):
        parts += [_line("grid", LEFT, y(tick), LEFT + PLOT, y(tick)), _text(LEFT - 8, y(tick) + 4, _plain(tick), "end")]
    low, high = max(x.low, y.low), min(x.high, y.high)
    if low < high:
        parts.append(_line("even", x(low), y(low), x(high), y(high)))
        middle = (low + high) / 2
        below = y(middle) < FLOOR - 24
        parts.append(_text(x(middle) + 8, y(middle) + (16 if below else -10), "no gain", "start", "faint halo"))
    for dot in dots:
        opacity = 0.8 if most == 1 else max(0.15, math.sqrt(dot.rows / most))
        at = f'cx="{x(dot.x):.1f}" cy="{y(dot.y):.1f}" r="2.6" fill-opacity="{opacity:.2f}"'
        parts.append(f'<circle class="s{dot.series % SERIES}" {at}/>')
    for series, label in enumerate(labels):
        if own := [dot for dot in dots if dot.series == series]:
            middle = sum(dot.x for dot in own) / len(own)
            parts.append(_text(x(middle), max(y(max(dot.y for dot in own)) - 9, 14), label, "middle", "halo"))
    parts.append(f'<text class="tick" text-anchor="middle" transform="translate(13 172) rotate(-90)">{y_label}</text>')
    parts.append(_line("axis", LEFT, FLOOR, LEFT + PLOT, FLOOR))
    return _svg(FLOOR + 46, title, [*parts, *_x_axis(x, FLOOR, x_label)])


def lines(
    curves: Sequence[Curve], x_end: float, marks: Sequence[float], title: str, x_label: str, is_log: bool = False
) -> Markup:
    """Curves (at least one) over 0 to `x_end`, each labelled at its right end; dotted lines at the x in `marks`.

    `is_log`: the y axis is logarithmic, and all y are > 0.
    """
    scale = math.log10 if is_log else float
    heights = [scale(py) for curve in curves for _, py in (*curve.points, *curve.raw)]
    x = Axis(0, x_end, LEFT, WIDTH - LABELS)
    y = _padded(heights, FLOOR, 14, LEAST_DECADES if is_log else LEAST_RANGE)
    parts = []
    for tick in _log_ticks(y) if is_log else y.ticks(7):
        at = y(scale(tick))
        parts += [_line("grid", LEFT, at, x.end, at), _text(LEFT - 8, at + 4, _plain(tick), "end")]
    parts += [_line("mark", x(mark), 14, x(mark), FLOOR) for mark in marks]
    for series, curve in enumerate(curves):
        raw, points = ([(x(px), y(scale(py))) for px, py in line] for line in (curve.raw, curve.points))
        parts += [_path(f"l{series % SERIES} raw", raw), _path(f"l{series % SERIES}", points)]
        if len(points) <= DOTTED:
            parts += [f'<circle class="s{series % SERIES}" cx="{px:.1f}" cy="{py:.1f}" r="3"/>' for px, py in points]
    ends = _spread([y(scale(curve.points[-1][1])) for curve in curves])
    for series, (curve, end) in enumerate(zip(curves, ends, strict=True)):
        parts.append(_line(f"key l{series % SERIES}", x.end + 4, end, x.end + 11, end))
        parts.append(_text(x.end + 14, end + 4, curve.label, "start"))
    parts.append(_line("axis", LEFT, FLOOR, x.end, FLOOR))
    return _svg(FLOOR + 46, title, [*parts, *_x_axis(x, FLOOR, x_label)])


def _path(kind: str, points: list[tuple[float, float]]) -> str:
    """A line through the points; where they are denser than SVG units, through the lowest and highest of each unit."""
    columns: dict[int, list[tuple[float, float]]] = {}
    for point in points:
        columns.setdefault(int(point[0]), []).append(point)
    kept = [
        point
        for column in columns.values()
        for point in sorted({min(column, key=lambda p: p[1]), max(column, key=lambda p: p[1])})
    ]
    return f'<polyline class="{kind}" points="{" ".join(f"{px:.1f},{py:.1f}" for px, py in kept)}"/>'


def _spread(heights: list[float]) -> list[float]:
    """Heights moved apart downwards, and then up again from the floor, so that labels at them do not overlap."""
    spread = dict.fromkeys(range(len(heights)), 0.0)
    free = 0.0
    for number in sorted(spread, key=heights.__getitem__):
        spread[number] = free = max(heights[number], free + LABEL_HEIGHT)
    over = max(0.0, free - FLOOR)
    return [height - over for height in spread.values()]


def _log_ticks(axis: Axis) -> list[float]:
    """Round values on an axis in powers of ten: 1, 2 and 5 of each, or evenly spaced values if those are too few."""
    low, high = 10**axis.low, 10**axis.high
    powers = range(math.floor(axis.low), math.ceil(axis.high) + 1)
    steps = (1,) if axis.high - axis.low > 3 else (1, 2, 5)
    ticks = [float(f"{step}e{power}") for power in powers for step in steps if low <= float(f"{step}e{power}") <= high]
    return ticks if len(ticks) > 2 else Axis(low, high, axis.start, axis.end).ticks(5)


def _padded(values: list[float], start: float, end: float, least: float = LEAST_RANGE) -> Axis:
    """An axis with room around the values, and of `least` length in all."""
    low, high = min(values), max(values)
    spare = max(0.06 * (high - low), (least - (high - low)) / 2)
    return Axis(low - spare, high + spare, start, end)


def _x_axis(x: Axis, floor: float, label: str) -> list[str]:
    parts = []
    for tick in x.ticks(6 if x.high >= 1000 else 8):  # long numbers need room
        parts += [_line("axis", x(tick), floor, x(tick), floor + 4), _text(x(tick), floor + 18, _plain(tick), "middle")]
    return [*parts, _text((x.start + x.end) / 2, floor + 38, label, "middle")]


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, extra: str = "") -> str:
    return f'<text class="tick {extra}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _short(count: int) -> str:
    """At most five characters: 1234 → 1.23k."""
    for power, unit in ((9, "G"), (6, "M"), (3, "k")):
        if count >= 10**power:
            return f"{count / 10**power:.3g}{unit}"
    return str(count)


def _plain(value: float) -> str:
    return f"{value:.10g}".replace("-", "−")


def _svg(height: float, title: str, parts: list[str]) -> Markup:
    """Nothing is escaped, because all texts are the report's own words and numbers."""
    body = "".join(parts)
    return Markup(f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{title}">{body}</svg>')  # noqa: S704
