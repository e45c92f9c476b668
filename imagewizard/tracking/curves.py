"""The curves of a training as one PNG: loss, validation PSNR, learning rate and speed against steps."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from imagewizard.storage import Folder
from imagewizard.tracking import history
from imagewizard.tracking.history import EVENT, TRAIN, VALIDATION, Row

# Okabe and Ito's colours; colour-blind readers can tell them apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")
INK, FAINT, GRID = "#1a1d23", "#8a919c", "#e3e6ea"


def write(run: str) -> None:
    """Redraws curves.png of a run."""
    Folder(run).write("curves.png", draw(history.read(run)))


def draw(rows: list[Row]) -> bytes:
    """A PNG of 1440 x 900 pixels with all curves so far; a dotted vertical line is an event, such as a resume."""
    train, validation = history.of_kind(rows, TRAIN), history.of_kind(rows, VALIDATION)
    layout = ConstrainedLayoutEngine(wspace=0.06, hspace=0.08)
    figure = Figure(figsize=(12, 7.5), dpi=120, layout=layout, facecolor="white")
    grid = figure.add_gridspec(2, 2, height_ratios=(2.3, 1))
    loss, psnr, rate, speed = (figure.add_subplot(grid[place]) for place in ((0, 0), (0, 1), (1, 0), (1, 1)))
    last = max((row["step"] for row in rows), default=1)
    events = [row["step"] for row in history.of_kind(rows, EVENT)]
    for axes, title in (
        (loss, "Training loss"),
        (psnr, "Validation PSNR, dB"),
        (rate, "Learning rate"),
        (speed, "Training images a second"),
    ):
        _dress(axes, title, last, events)
    _loss(loss, train)
    _psnr(psnr, validation)
    _single(rate, train, "learning_rate", COLOURS[3])
    _single(speed, train, "images_per_second", COLOURS[4])
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def _dress(axes: Axes, title: str, last: int, events: list[int]) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9, color=FAINT)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlim(0, max(1, last) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("step", fontsize=9, color=INK)
    for step in events:
        axes.axvline(step, color=FAINT, linewidth=1, linestyle=":", zorder=1)


def _loss(axes: Axes, train: list[Row]) -> None:
    """Loss and its terms on a logarithmic axis."""
    shown: list[float] = []
    for (name, points), colour in zip(history.loss_curves(train).items(), COLOURS, strict=False):
        steps, values = [step for step, _ in points], [value for _, value in points]
        label = f"{name}  {values[-1]:.4f}"
        _line(axes, steps, values, colour, label)
        shown += values
    if not shown:
        _nothing(axes, "no step yet")
        return
    axes.set_yscale("log")
    is_wide = max(shown) > 4 * min(shown)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if is_wide else MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    _legend(axes)


def _psnr(axes: Axes, validation: list[Row]) -> None:
    curves = history.psnr_curves(validation)
    for number, (level, points) in enumerate(curves.items()):
        steps, values = zip(*points, strict=True)
        axes.plot(
            steps,
            values,
            color=COLOURS[number % len(COLOURS)],
            linewidth=1.8,
            marker="o",
            markersize=4 if len(points) < 40 else 0,
            label=f"{history.level_label(level)}   {values[-1]:.2f}",
        )
    if curves:
        axes.set_ylim(bottom=max(axes.get_ylim()[0], history.psnr_floor(curves)))
        _legend(axes)
    else:
        _nothing(axes, "no validation yet")


def _single(axes: Axes, train: list[Row], name: str, colour: str) -> None:
    known = [row for row in train if row[name] is not None]
    _line(axes, [row["step"] for row in known], [row[name] for row in known], colour, name)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def _line(axes: Axes, steps: list[int], values: list[float], colour: str, label: str) -> None:
    """Draws a smoothed line over the raw values in a fainter colour; a single value is a dot."""
    axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
    axes.plot(steps, history.smoothed(values), color=colour, linewidth=1.8, label=label)
    if len(steps) == 1:
        axes.plot(steps, values, color=colour, marker="o", markersize=4, clip_on=False)


def _legend(axes: Axes) -> None:
    axes.legend(loc="best", fontsize=9, frameon=True, framealpha=0.85, edgecolor="none", labelcolor=INK)


def _nothing(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=10, color=FAINT)
    axes.set_yticks([])
