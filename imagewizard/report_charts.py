"""The charts of the report as inline SVG: colours are the page's CSS variables, and nothing is told by colour alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

WIDTH, LEFT, RIGHT = 520, 58, 14  # SVG units; a phone shows 520 of them on some 360 pixels
PLOT = WIDTH - LEFT - RIGHT
FLOOR = 314  # of the plots, which so are of one height
STRIP_GAP = 24  # for the mean's label
LEAST_RANGE = 2.0  # dB: less would blow up what is no difference
SERIES = 6  # colours of the page; more series go round


class Bins(NamedTuple):
    """A histogram: bin number → count, and the mean of what was counted; bin n is [n, n + 1) · step."""

    counts: dict[int, int]
    mean: float


class Dot(NamedTuple):
    """Rows that lie so close together that they are one dot."""

    series: int
    x: float
    y: float
    rows: int


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
    """One strip a facet (a noise level), above each other on one x axis; each is scaled to its own highest bin."""
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
    """Dots by series, each series labelled above its own; on the dashed line y = x nothing was gained."""
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


def _padded(values: list[float], start: float, end: float) -> Axis:
    """An axis with room around the values, and of LEAST_RANGE at least."""
    low, high = min(values), max(values)
    spare = max(0.06 * (high - low), (LEAST_RANGE - (high - low)) / 2)
    return Axis(low - spare, high + spare, start, end)


def _x_axis(x: Axis, floor: float, label: str) -> list[str]:
    parts = []
    for tick in x.ticks(8):
        parts += [_line("axis", x(tick), floor, x(tick), floor + 4), _text(x(tick), floor + 18, _plain(tick), "middle")]
    return [*parts, _text(LEFT + PLOT / 2, floor + 38, label, "middle")]


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, extra: str = "") -> str:
    return f'<text class="tick {extra}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _short(count: int) -> str:
    """At most five signs: 1234 → 1.2k."""
    for power, unit in ((9, "G"), (6, "M"), (3, "k")):
        if count >= 10**power:
            return f"{count / 10**power:.3g}{unit}"
    return str(count)


def _plain(value: float) -> str:
    return f"{value:.10g}".replace("-", "−")


def _svg(height: float, title: str, parts: list[str]) -> Markup:
    """The texts are the report's own words and numbers, so there is nothing to escape."""
    body = "".join(parts)
    return Markup(f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{title}">{body}</svg>')  # noqa: S704
