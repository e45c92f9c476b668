"""Which images of a restoration the report shows: those that changed most, those that changed least, some in between.

Only the pixels know how much an image changed. But the change rises with the level that the network was told, and that
the rows know of all images: so images are chosen by their level, and those that are shown are measured.
"""

import math
from dataclasses import dataclass
from typing import Any

import duckdb

from imagewizard.query import sql as query_sql
from imagewizard.report import panels as report_panels
from imagewizard.report.panels import COLUMNS, ReportSample
from imagewizard.schema import IMAGE_ID, NOISE_FOUND, NOISE_STD, SIGMA, SIGMA_ESTIMATED, STRENGTH

STRONGEST, WEAKEST, BETWEEN, UNRANKED = "strongest change", "weakest change", "in between", ""
AT_EACH_END = 4
_QUANTILES = (0.25, 0.5, 0.75)
_EXAMPLES = 3

# What the network was told, whether it was found or given; null where no level could be found, and for a failed image.
LEVEL = f"CASE WHEN status = 'ok' THEN coalesce({SIGMA_ESTIMATED}, {SIGMA} * coalesce({STRENGTH}, 1)) END"
_CHANGED = f"FROM results WHERE {LEVEL} > 0"
_UNCHANGED = f"""
    SELECT count(*) FILTER ({LEVEL} = 0) AS clean,
           min({IMAGE_ID}, {_EXAMPLES}) FILTER ({LEVEL} = 0) AS clean_examples,
           count(*) FILTER ({LEVEL} IS NULL) AS unknown,
           min({IMAGE_ID}, {_EXAMPLES}) FILTER ({LEVEL} IS NULL) AS unknown_examples
    FROM results WHERE status = 'ok'"""
_KINDS = f"""
    SELECT {NOISE_FOUND}, count(*) AS images, avg({NOISE_STD}) AS {NOISE_STD}, avg({SIGMA_ESTIMATED}) AS told
    FROM results WHERE status = 'ok' AND {NOISE_FOUND} IS NOT NULL GROUP BY {NOISE_FOUND} ORDER BY images DESC"""


@dataclass(frozen=True)
class Unchanged:
    """The images that a restoration left as they were, of either kind with the first few ids."""

    clean: int
    """The network was told 0: no noise was found in them, or their level was given as 0, or the strength."""
    clean_examples: list[str]
    unknown: int
    """No level could be found in them."""
    unknown_examples: list[str]


def unchanged(connection: duckdb.DuckDBPyConnection) -> Unchanged:
    """Of all ok rows."""
    found = query_sql.records(connection, _UNCHANGED)[0]
    return Unchanged(**{name: [] if value is None else value for name, value in found.items()})


def kinds(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """For each kind of noise that was found: images, and means of its deviation and of what the network was told."""
    return query_sql.records(connection, _KINDS)


def choose(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, dict[str, Any]]]:
    """(place, ok row) of images that changed, the same ones each time; UNRANKED if all have one level."""
    facts = f"SELECT count(*) AS images, min({LEVEL}) = max({LEVEL}) AS is_one {_CHANGED}"
    changed = query_sql.records(connection, facts)[0]
    if changed["is_one"]:
        return [(UNRANKED, row) for row in _rows(connection, IMAGE_ID, 2 * AT_EACH_END)]
    most = min(AT_EACH_END, math.ceil(changed["images"] / 2))
    least = min(AT_EACH_END, changed["images"] - most)
    chosen = [(STRONGEST, row) for row in _rows(connection, f"{LEVEL} DESC, {IMAGE_ID}", most)]
    chosen += [(WEAKEST, row) for row in _rows(connection, f"{LEVEL}, {IMAGE_ID} DESC", least)]
    places = report_panels.choose(connection, f"CASE WHEN {LEVEL} > 0 THEN {LEVEL} END", levels=1)
    chosen += [(BETWEEN, row) for place, row in places if place in _QUANTILES]
    first: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, row in chosen:
        first.setdefault(row[IMAGE_ID], (place, row))
    return list(first.values())


def _rows(connection: duckdb.DuckDBPyConnection, order: str, count: int) -> list[dict[str, Any]]:
    return query_sql.records(connection, f"SELECT {COLUMNS} {_CHANGED} ORDER BY {order} LIMIT {count}")


def in_order(samples: list[ReportSample]) -> list[ReportSample]:
    """By place, and within a place by the change that was measured; where it could not be, at the place's end."""
    order = (STRONGEST, WEAKEST, BETWEEN, UNRANKED)

    def key(sample: ReportSample) -> tuple[int, float]:
        if sample.change is None:
            return order.index(sample.place), math.inf
        return order.index(sample.place), sample.change if sample.place == WEAKEST else -sample.change

    return sorted(samples, key=key)
