"""The pictures of the report: images that stand for the run, as clean, noisy and denoised panels."""

import base64
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np

from imagewizard.errors import UserError, one_line
from imagewizard.images.encoding import encode
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import Picture, decode_rgb
from imagewizard.metrics import METRICS
from imagewizard.noise import synthetic
from imagewizard.query import sql as query_sql
from imagewizard.schema import (
    ADDED_SIGMA,
    HEIGHT,
    IMAGE_ID,
    KEY,
    NOISE_FOUND,
    NOISE_KIND,
    NOISE_PARAMS,
    NOISE_STD,
    OUTPUT_URI,
    RESULTS_VERSION,
    SAME_NOISE_SINCE,
    SCORES,
    SEED,
    SIGMA,
    SIGMA_ESTIMATED,
    STRENGTH,
    URI,
    WIDTH,
    noisy,
)
from imagewizard.sources import reading

MOST = 12
PANEL_SIDE = 600  # pixels of the longer side at most; a panel is shown some 350 wide
PANEL_QUALITY = 80
PAIR_QUALITY = 92  # of a restoration, whose noise may be so weak that 80 would take it off
CROP_SHAPE = 72, 112  # pixels of the image, each shown as a square of about three
PAIR_CROP_SHAPE = 104, 168  # a pair has wider panels
_CELL = 8  # the crop lies on a grid of these cells, which divide its sides

COLUMNS = ", ".join([*KEY, URI, WIDTH, HEIGHT, *SCORES, SIGMA_ESTIMATED, STRENGTH, NOISE_STD, NOISE_FOUND, OUTPUT_URI])

# {number of samples of a noise level: their quantiles in the order of scores}
_PLACES: dict[int, list[float]] = {
    9: [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1],
    5: [0, 0.25, 0.5, 0.75, 1],
    3: [0, 0.5, 1],
    2: [0, 1],
    1: [0.5],
}


@dataclass(frozen=True)
class ReportPanel:
    """One image of a row, as data: URIs."""

    name: str
    whole: str
    crop: str | None
    """A part at native resolution; None for a small image, of which `whole` shows each pixel."""
    caption: str


@dataclass(frozen=True)
class ReportSample:
    """A result row with its panels."""

    place: str
    """Its place among the images of its noise level: worst gain, median, …"""
    row: dict[str, Any]
    panels: list[ReportPanel] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What could not be shown, and why."""
    change: float | None = None
    """Of a restored image that is shown before and after: root mean square of the difference, in grey levels."""


def choose(connection: duckdb.DuckDBPyConnection, score: str, levels: int) -> list[tuple[float, dict[str, Any]]]:
    """(quantile, ok row) for up to MOST rows over the whole range of the SQL expression `score`, the same each time."""
    places = next((places for count, places in _PLACES.items() if count * levels <= MOST), _PLACES[1])
    marks = f"""
        SELECT noise_params, {ADDED_SIGMA} AS added, quantile_disc({score}, {places}) FROM results
        WHERE status = 'ok' AND {score} IS NOT NULL GROUP BY noise_params, added ORDER BY added, noise_params"""
    wanted = [
        ((params, added), value, place)
        for params, added, values in query_sql.select(connection, marks).fetchall()
        for value, place in zip(values, places, strict=True)
    ]
    if not wanted:
        return []
    # A list of values instead of a join: DuckDB does not know the table's size, and would hash all of it.
    values = ", ".join(sorted({_literal(value) for _, value, _ in wanted}))
    sql = f"""
        SELECT DISTINCT ON (noise_params, added, score) {COLUMNS}, {score} AS score, {ADDED_SIGMA} AS added
        FROM results WHERE status = 'ok' AND score IN ({values}) ORDER BY added, noise_params, score, image_id"""
    rows = {((row[NOISE_PARAMS], row["added"]), row["score"]): row for row in query_sql.records(connection, sql)}
    chosen: dict[str, tuple[float, dict[str, Any]]] = {}
    for setting, value, place in wanted:  # in a small run an image may have several places
        row = rows[setting, value]
        chosen.setdefault(f"{setting} {row[IMAGE_ID]}", (place, row))
    return list(chosen.values())[:MOST]


def _literal(value: float | str) -> str:
    """SQL for exactly this value; DuckDB takes a bare 9.83 for a decimal number."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else f"CAST('{value!r}' AS DOUBLE)"


def sample(place: str, row: dict[str, Any], max_pixels: int, results_version: int = RESULTS_VERSION) -> ReportSample:
    """Panels of the images that still exist: input, noisy and denoised.

    The noisy one is made again from the row, if this version draws the noise that the run's `results_version` drew.
    """
    missing: list[str] = []
    shown: list[tuple[str, np.ndarray, str]] = []
    shape = row[HEIGHT], row[WIDTH]
    clean = _read(row[URI], shape, max_pixels, "the input", missing)
    if clean is not None:
        size = f"{row[WIDTH]} × {row[HEIGHT]} px"
        shown.append(("input" if row[NOISE_KIND] is None else "clean", clean, size))
        if row[NOISE_KIND] in synthetic.KINDS and results_version < SAME_NOISE_SINCE[row[NOISE_KIND]]:
            missing.append("the noisy image cannot be shown: this version of Image Wizard draws other noise")
        elif row[NOISE_KIND] in synthetic.KINDS:
            shown.append(("noisy", _noisy(clean, row), _scores({name: row[noisy(name)] for name in METRICS})))
    if row[OUTPUT_URI]:
        denoised = _read(row[OUTPUT_URI], shape, max_pixels, "the denoised image", missing)
        if denoised is not None:
            shown.append(("denoised", denoised, _scores({name: row[name] for name in METRICS})))
    if row[NOISE_KIND] is None and len(shown) == 2:
        return _pair(place, row, shown)
    if not shown:
        return ReportSample(place, row, missing=missing)
    crop = _crop(_detail(shown[0][1]), CROP_SHAPE)
    return ReportSample(place, row, [_panel(*each, crop, PANEL_QUALITY) for each in shown], missing)


def _pair(place: str, row: dict[str, Any], shown: list[tuple[str, np.ndarray, str]]) -> ReportSample:
    """A restored image before and after, enlarged where it changed most."""
    difference = np.subtract(shown[0][1], shown[1][1], dtype=np.int16)
    crop = _crop(np.abs(difference).mean(axis=2, dtype=np.float32), PAIR_CROP_SHAPE)
    panels = [_panel(*each, crop, PAIR_QUALITY) for each in shown]
    return ReportSample(place, row, panels, change=float(np.sqrt(np.square(difference, dtype=np.int32).mean())))


def _read(uri: str, shape: tuple[int, int], max_pixels: int, what: str, missing: list[str]) -> np.ndarray | None:
    """The image; None, and a line in `missing`, if it is gone or has changed since the run."""
    try:
        image = decode_rgb(reading.read_origin(uri, reading.byte_limit(max_pixels)), max_pixels)
    except (OSError, ValueError, UserError, ImageError) as error:
        reason = "it is no longer there" if isinstance(error, FileNotFoundError) else one_line(error)[:200]
        missing.append(f"{what} cannot be shown: {reason} ({uri})")
        return None
    if image.shape[:2] != shape:
        missing.append(f"{what} cannot be shown: it has changed since the run ({uri})")
        return None
    return image


def _noisy(clean: np.ndarray, row: dict[str, Any]) -> np.ndarray:
    """The image with the same noise as in the run, clipped to uint8."""
    noise = synthetic.of_row(row[NOISE_KIND], row[NOISE_PARAMS], row[SIGMA])
    image = noise.add(clean, row[IMAGE_ID], row[SEED])
    return np.clip(image, 0, 255, out=image).round().astype(np.uint8)


def _scores(values: dict[str, float | None]) -> str:
    return " · ".join(text for name, value in values.items() if (text := METRICS[name].text(value)))


def _panel(name: str, image: np.ndarray, caption: str, crop: tuple[slice, slice] | None, quality: int) -> ReportPanel:
    whole = _data_uri(_shrunk(image), quality)
    return ReportPanel(name, whole, None if crop is None else _data_uri(image[crop], None), caption)


def _shrunk(image: np.ndarray) -> np.ndarray:
    """The image, scaled down by the least whole factor that makes both sides at most PANEL_SIDE; means of pixels."""
    height, width = image.shape[:2]
    factor = -(-max(height, width) // PANEL_SIDE)
    down, across = min(factor, height), min(factor, width)
    whole = image[: height // down * down, : width // across * across]
    cells = whole.reshape(height // down, down, width // across, across, 3)
    return cells.mean(axis=(1, 3)).round().astype(np.uint8)


def _detail(image: np.ndarray) -> np.ndarray:
    """(H, W): how much grey values change from pixel to pixel."""
    grey = image.mean(axis=2, dtype=np.float32)
    change = np.abs(np.diff(grey, axis=0, append=0)) + np.abs(np.diff(grey, axis=1, append=0))
    change[-1], change[:, -1] = 0, 0
    return change


def _crop(weights: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice] | None:
    """The crop of this height and width with the greatest sum of `weights` (H, W); None if the image is smaller."""
    height, width = (side // _CELL for side in weights.shape)
    if height < shape[0] // _CELL or width < shape[1] // _CELL:
        return None
    cells = weights[: height * _CELL, : width * _CELL].reshape(height, _CELL, width, _CELL).sum(axis=(1, 3))
    windows = np.lib.stride_tricks.sliding_window_view(cells, (shape[0] // _CELL, shape[1] // _CELL))
    sums = windows.sum(axis=(2, 3))
    y, x = (int(place) * _CELL for place in np.unravel_index(np.argmax(sums), sums.shape))
    return slice(y, y + shape[0]), slice(x, x + shape[1])


def _data_uri(image: np.ndarray, quality: int | None) -> str:
    data = encode(Picture(np.ascontiguousarray(image)), "webp", quality).data
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
