"""metrics.jsonl of a training run: reads and writes its rows, and formats each as one line of text.

A row is {kind: train | validation | event, step, time, …}; `line` shows the other fields.
"""

import itertools
import json
import math
import re
import time
from collections.abc import Iterable
from typing import Any

from imagewizard import storage
from imagewizard.progress import clock
from imagewizard.storage import Folder

TRAIN, VALIDATION, EVENT = "train", "validation", "event"

# In the place of a level, in the names of a validation's scores: those of pairs of noisy and clean images.
PAIRS = "pairs"

Row = dict[str, Any]

PSNR_RANGE = 4.0  # a chart shows this many dB below the best PSNR of a level
TERMS = ("loss", "mse", "perceptual")


def read(run: str) -> list[Row]:
    """The rows of a training run in order, without the steps that a resume has undone; [] if there are none yet."""
    try:
        data = Folder(run).read("metrics.jsonl")
    except FileNotFoundError:
        return []
    rows = [row for line in data.splitlines() if (row := _parsed(line))]
    kept: list[Row] = []
    again_from: dict[str, int] = {}
    for row in reversed(rows):  # a row is undone if a later row of its kind has the same step or a lower one
        kind = row["kind"]
        if kind == EVENT or kind not in again_from or row["step"] < again_from[kind]:
            kept.append(row)
            again_from[kind] = row["step"]
    return kept[::-1]


class Reader:
    """Follows metrics.jsonl as it grows, and reads each part once."""

    def __init__(self, run: str) -> None:
        self._uri = Folder(run).uri_of("metrics.jsonl")
        self._read = 0

    def news(self) -> list[Row]:
        """The rows since the last call; all rows if the file was rewritten and is shorter than before."""
        try:
            size = storage.size(self._uri)
            if size < self._read:
                self._read = 0
            data = storage.read_range(self._uri, self._read, size - self._read) if size > self._read else b""
        except FileNotFoundError:
            self._read = 0
            return []
        whole = data[: data.rfind(b"\n") + 1]  # the last line may be half written
        self._read += len(whole)
        return [row for line in whole.splitlines() if (row := _parsed(line))]


def write(run: str, rows: list[Row]) -> None:
    """Rewrites metrics.jsonl atomically."""
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    Folder(run).write("metrics.jsonl", data)


def add_event(run: str, step: int, text: str) -> None:
    """Adds an event to the rows of a run that no worker is writing to."""
    write(run, [*read(run), {"kind": EVENT, "step": step, "text": text, "time": time.time()}])


def _parsed(line: bytes) -> Row | None:
    """The row of a line; None for half a line, which a crash may leave behind."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"kind", "step"} <= row.keys() else None


def of_kind(rows: list[Row], kind: str) -> list[Row]:
    return [row for row in rows if row["kind"] == kind]


def by_level(row: Row, name: str) -> dict[str, float]:
    """{level: value} of a validation's `name`: psnr, ssim, psnr_noisy, …; by rising level, PAIRS comes last."""
    found = ((re.fullmatch(rf"{name}_(\d[^_]*|{PAIRS})", key), value) for key, value in row.items())
    values = {match[1]: value for match, value in found if match and value is not None}
    return dict(sorted(values.items(), key=lambda item: math.inf if item[0] == PAIRS else float(item[0])))


def level_label(level: str) -> str:
    """`σ 15`, or `pairs`."""
    return level if level == PAIRS else f"σ {level}"


def at_levels(levels: Iterable[str]) -> str:
    """`at sigma 15 / 25 / 50`, `at sigma 25 and of pairs`, or `of pairs`."""
    told = list(levels)
    sigmas = " / ".join(level for level in told if level != PAIRS)
    return " and ".join([f"at sigma {sigmas}"] * bool(sigmas) + ["of pairs"] * (PAIRS in told))


def best(rows: list[Row]) -> Row | None:
    """The validation row with the highest mean PSNR, the first of equals; None if there is no validation."""
    return max(of_kind(rows, VALIDATION), key=lambda row: row["psnr"], default=None)


def line(row: Row, epochs: float | None = None) -> str:
    """A row as one line of about 100 characters; `epochs`: epochs in the whole run, if known.

    `epoch 3.25/20  step 120/1875  loss 0.0610 (mse 0.0500, perceptual 0.1100)  lr 9.0e-04  14.2 images/s  ETA 13:32`
    """
    if row["kind"] == EVENT:
        return f"step {row['step']}  {row['text']}"
    if row["kind"] == VALIDATION:
        return f"step {row['step']}  validation  {scores(row)}"
    parts = [
        f"epoch {row['epoch']:.2f}" + (f"/{epochs:g}" if epochs else ""),
        f"step {row['step']}/{row['steps']}",
        f"loss {loss(row)}",
        f"lr {row['learning_rate']:.1e}",
    ]
    if row["images_per_second"] is not None:  # unknown after the first step of a process, which is start-up
        parts.append(f"{row['images_per_second']:.1f} images/s")
    if row["eta_seconds"]:
        parts.append(f"ETA {clock(row['eta_seconds'])}")
    return "  ".join(parts)


def loss(row: Row) -> str:
    """`0.0610 (mse 0.0500, perceptual 0.1100)`, or `0.0500` if the loss has one term."""
    if "perceptual" not in row:
        return f"{row['loss']:.4f}"
    return f"{row['loss']:.4f} (mse {row['mse']:.4f}, perceptual {row['perceptual']:.4f})"


def scores(row: Row) -> str:
    """`psnr 33.10 / 30.20 / 27.00 dB, ssim .910 / .850 / .750 at sigma 15 / 25 / 50`."""
    psnr, ssim = by_level(row, "psnr"), by_level(row, "ssim")
    text = f"psnr {' / '.join(f'{value:.2f}' for value in psnr.values())} dB"
    if ssim:
        text += f", ssim {' / '.join(f'{value:.3f}'.removeprefix('0') for value in ssim.values())}"
    return f"{text} {at_levels(psnr)}"


def loss_curves(rows: list[Row]) -> dict[str, list[tuple[int, float]]]:
    """{name: [(step, value), …] in the rows' order} of the loss, and of its terms if it has several.

    Only finite values > 0, for a logarithmic axis; this leaves out the NaN that ends a run.
    """
    train = of_kind(rows, TRAIN)
    names = TERMS if any("perceptual" in row for row in train) else TERMS[:1]
    curves = {name: [(row["step"], row[name]) for row in train if 0 < row.get(name, 0) < math.inf] for name in names}
    return {name: points for name, points in curves.items() if points}


def psnr_curves(rows: list[Row]) -> dict[str, list[tuple[int, float]]]:
    """{level: [(step, PSNR in dB), …] in the rows' order}."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in of_kind(rows, VALIDATION):
        for level, value in by_level(row, "psnr").items():
            curves.setdefault(level, []).append((row["step"], value))
    return curves


def psnr_floor(curves: dict[str, list[tuple[int, float]]]) -> float:
    """Lower limit of a PSNR chart, in dB. A new network starts so low that it would squeeze the rest of the curve."""
    return min(max(value for _, value in points) for points in curves.values()) - PSNR_RANGE


def smoothed(values: list[float]) -> list[float]:
    """Centred means over a window of 5 % of the values. It is cut at the last value, and smaller for the first values.

    Early losses fall by a power law: a mean over a wide window would lie above most of its values.
    """
    reach = len(values) // 40
    sums = list(itertools.accumulate(values, initial=0.0))
    first = [at - min(reach, at // 3) for at in range(len(values))]
    end = [min(at + min(reach, at // 3), len(values) - 1) + 1 for at in range(len(values))]
    return [(sums[b] - sums[a]) / (b - a) for a, b in zip(first, end, strict=True)]
