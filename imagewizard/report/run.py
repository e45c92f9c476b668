"""A bulk run as one self-contained HTML page: numbers and pictures of a dozen images; nothing is fetched."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import duckdb
from markupsafe import Markup

from imagewizard import storage
from imagewizard.manifest import shards
from imagewizard.metrics import METRICS
from imagewizard.noise import synthetic
from imagewizard.query import sql as query_sql
from imagewizard.query.canned import AVERAGES, CANNED
from imagewizard.report import charts as report_charts
from imagewizard.report import page, restoration
from imagewizard.report import panels as report_panels
from imagewizard.report.charts import Bins, Dot
from imagewizard.report.panels import ReportSample
from imagewizard.runs import job, summary
from imagewizard.runs import totals as run_totals
from imagewizard.schema import (
    ADDED_SIGMA,
    GAIN,
    GROUPED_SIGMA,
    NOISE_KIND,
    NOISE_PARAMS,
    OUTPUT_URI,
    PSNR,
    SIGMA,
    noisy,
)
from imagewizard.sources import addresses

ERROR_KINDS = 30
HISTOGRAM_BINS = 40
SCATTER_CELLS = 120, 90  # one dot for all rows in a cell: a chart of 10^8 rows is no larger than one of 10^4
READERS = 4  # pictures read at a time: their storage may be far away, and they may be large
MAX_PIXELS = 100_000_000  # of a picture; used without a job.yaml, which has the job's own limit

_MEANS = f"{AVERAGES}, avg({restoration.LEVEL}) AS told"
_TOTALS = f"""
    SELECT {_MEANS}, min({restoration.LEVEL}) IS NOT DISTINCT FROM max({restoration.LEVEL}) AS is_one_level,
           min(finished_at) AS first, max(finished_at) AS last FROM results"""
_LEVELS = f"""
    SELECT any_value(noise_kind) AS noise_kind, noise_params, {ADDED_SIGMA} AS added, {GROUPED_SIGMA}, {_MEANS}
    FROM results GROUP BY noise_params, added"""
_ERRORS = f"""
    SELECT stage, error, count(*) AS images, min(image_id, 3) AS examples, count(*) OVER () AS kinds
    FROM results WHERE status = 'error' GROUP BY stage, error ORDER BY images DESC, stage, error LIMIT {ERROR_KINDS}"""

_NOTES = f"{CANNED['notes'].sql} LIMIT {ERROR_KINDS}"


class RankedBy(NamedTuple):
    """What the images of a run are charted by."""

    sql: str
    meaning: str
    unit: str


_GAIN = RankedBy(GAIN, "gain in PSNR", "gain in PSNR, dB")
_LEVEL = RankedBy(restoration.LEVEL, "noise level", "noise level σ, 0–255 scale")
_ONE_LEVEL = RankedBy("NULL", "noise level", "")  # a restoration in which all images had the same: nothing to chart
_GAIN_LABELS = {0.0: "worst gain", 0.5: "median", 1.0: "best gain"}


def write_report(run: str) -> str:
    """Writes <run>/report.html and returns its URI. Raises UserError if `run` is no run folder.

    The page says so if the run is unfinished, has only errors, or has lost its images.
    """
    with query_sql.connect([run]) as connection:
        return page.write(run, "run.html.tmpl", _facts(run, connection))


def _facts(run: str, connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """The context of the template."""
    facts = page.facts(run)
    config = facts["config"]
    finished = summary.read(run)
    totals = query_sql.records(connection, _TOTALS)[0]
    levels = sorted(query_sql.records(connection, _LEVELS), key=run_totals.in_order)
    for level, name in zip(levels, _names(levels, config), strict=True):
        level["name"] = name
    score = _GAIN if totals["gain"] is not None else _ONE_LEVEL if totals["is_one_level"] else _LEVEL
    is_restored = score is not _GAIN and totals["ok"] > 0
    denoised = {(level[NOISE_PARAMS], level["added"]): level["name"] for level in levels if level["ok"]}
    return facts | {
        "source": _source(config),
        "noise": _noise(config),
        "method": _method(config),
        "metrics": [(name, noisy(name), metric) for name, metric in METRICS.items()],
        "totals": totals,
        "levels": levels,
        "is_scored": score is _GAIN,
        "expected": _expected(run, config),
        "is_finished": finished is not None,
        "rate": _rate(finished),
        "charts": _charts(connection, denoised, score),
        "samples": _samples(run, connection, facts["job"], denoised, is_restored),
        "kinds": restoration.kinds(connection) if is_restored else [],
        "unchanged": restoration.unchanged(connection) if is_restored else None,
        "is_restored": is_restored,
        "crop_ratio": report_panels.PAIR_CROP_SHAPE[1] / report_panels.PAIR_CROP_SHAPE[0],
        "script": page.script("slider.js") if is_restored else None,
        "errors": query_sql.records(connection, _ERRORS),
        "notes": query_sql.records(connection, _NOTES),
    }


def _source(config: dict[str, Any]) -> str:
    given = config.get("input")
    return f"{len(given)} files" if isinstance(given, list) else str(given)


def _noise(config: dict[str, Any]) -> str:
    """The noise but for what its settings are named by; empty where none was added."""
    section = {name: each[0] if isinstance(each, list) else each for name, each in (config.get("noise") or {}).items()}
    kind = section.pop("kind", "")
    return synthetic.make(kind, [section])[0].describe() if kind in synthetic.KINDS else kind


def _names(levels: list[dict[str, Any]], config: dict[str, Any]) -> list[str]:
    """A short name for each setting of the noise: `σ 25`, `a 0.5, b 4`."""
    names = synthetic.names([(level[NOISE_KIND], level[NOISE_PARAMS], level[SIGMA]) for level in levels])
    restored = "σ found" if config.get("denoise", {}).get("sigma", "auto") == "auto" else "σ given"
    return [name.replace("sigma ", "σ ", 1) or restored for name in names]


def _method(config: dict[str, Any]) -> str:
    denoise = config.get("denoise", {})
    steps = "one step" if denoise.get("mode") == "mmse" else f"{denoise.get('steps')} steps"
    return f"{config.get('model')} ({denoise.get('mode')}, {steps})"


def _expected(run: str, config: dict[str, Any]) -> int | None:
    """The number of rows of the whole run; None while its input is being listed."""
    index = shards.read_index(run)
    return index.images * job.levels(config) if index else None


def _rate(finished: dict[str, Any] | None) -> tuple[float, str] | None:
    """(rows per second of the last session, the part of the session that this is measured over); None without rows."""
    session = (finished or {}).get("session", {})
    if steady := session.get("steady_rows_per_second"):
        return steady, "last session, once it ran"
    overall = session.get("rows_per_second")
    return (overall, "last session, with its start") if overall else None


# {noise_params and the level added: short name} of a run's settings of the noise.
Settings = dict[tuple[str, float | None], str]


def _charts(connection: duckdb.DuckDBPyConnection, settings: Settings, score: RankedBy) -> dict[str, Markup]:
    """A histogram of the score and, if it is the gain, a scatter plot of before and after; {} without a score."""
    if not settings or score is _ONE_LEVEL:
        return {}
    charts = {"histogram": _histogram(connection, settings, score)}
    return charts | {"scatter": _scatter(connection, settings)} if score is _GAIN else charts


def _range(connection: duckdb.DuckDBPyConnection, value: str) -> tuple[float, float]:
    """The range of the middle 99 % of a value: a few images capped at 100 dB must not squash a chart."""
    ends = query_sql.records(connection, f"SELECT quantile_disc({value}, [0.005, 0.995]) AS ends FROM results")[0][
        "ends"
    ]
    return ends[0], ends[1]


def _histogram(connection: duckdb.DuckDBPyConnection, settings: Settings, score: RankedBy) -> Markup:
    low, high = _range(connection, score.sql)
    step = report_charts.nice_step(max((high - low) / HISTOGRAM_BINS, 0.1))
    sql = f"""
        SELECT noise_params, {ADDED_SIGMA} AS added,
               CAST(floor(greatest({low}, least({high}, {score.sql})) / {step}) AS INTEGER) AS bin,
               count(*) AS images, sum({score.sql}) AS total
        FROM results WHERE {score.sql} IS NOT NULL GROUP BY noise_params, added, bin"""
    rows = query_sql.records(connection, sql)
    facets = {}
    for setting, name in settings.items():
        own = [row for row in rows if (row[NOISE_PARAMS], row["added"]) == setting]
        if own:
            mean = sum(row["total"] for row in own) / sum(row["images"] for row in own)
            facets["" if score is _LEVEL else name] = Bins({row["bin"]: row["images"] for row in own}, mean)
    return report_charts.histogram(facets, step, f"Number of images by {score.meaning}", score.unit)


def _scatter(connection: duckdb.DuckDBPyConnection, settings: Settings) -> Markup:
    (left, right), (low, high) = _range(connection, noisy(PSNR)), _range(connection, PSNR)
    width = max(right - left, report_charts.LEAST_RANGE) / SCATTER_CELLS[0]
    height = max(high - min(low, left), report_charts.LEAST_RANGE) / SCATTER_CELLS[1]
    sql = f"""
        WITH dots AS (SELECT noise_params, {ADDED_SIGMA} AS added, greatest({left}, least({right}, psnr_noisy)) AS x,
                             greatest({low}, least({high}, psnr)) AS y
                      FROM results WHERE psnr IS NOT NULL AND psnr_noisy IS NOT NULL)
        SELECT noise_params, added, avg(x) AS x, avg(y) AS y, count(*) AS images
        FROM dots GROUP BY noise_params, added, floor((x - {left}) / {width}), floor((y - {low}) / {height})
        ORDER BY added, noise_params, x, y"""
    places = {setting: place for place, setting in enumerate(settings)}
    dots = [
        Dot(places[row[NOISE_PARAMS], row["added"]], row["x"], row["y"], row["images"])
        for row in query_sql.records(connection, sql)
    ]
    title = "PSNR of the images before and after denoising"
    return report_charts.scatter(dots, list(settings.values()), title, "PSNR noisy, dB", "PSNR denoised, dB")


def _samples(
    run: str, connection: duckdb.DuckDBPyConnection, made: dict[str, Any], settings: Settings, is_restored: bool
) -> list[ReportSample]:
    """Samples over the whole range of the gain, or of how much restored images changed. `made`: what job.yaml holds."""
    config = made.get("config", {})
    output = f"{config.get('output', run).rstrip('/')}/"

    def sample(chosen: tuple[str, dict[str, Any]]) -> ReportSample:
        place, row = chosen
        row["name"] = settings[row[NOISE_PARAMS], None if row[NOISE_KIND] is None else row[SIGMA]]
        if row[OUTPUT_URI]:
            row[OUTPUT_URI] = _moved(row[OUTPUT_URI], output, run)
        return report_panels.sample(place, row, config.get("max_pixels", MAX_PIXELS), job.results_version(made))

    with ThreadPoolExecutor(READERS) as pool:
        if is_restored:
            return restoration.in_order(list(pool.map(sample, restoration.choose(connection))))
        by_gain = report_panels.choose(connection, GAIN, len(settings))
        named = [(_GAIN_LABELS.get(place, f"quantile {100 * place:g} %"), row) for place, row in by_gain]
        return list(pool.map(sample, named))


def _moved(address: str, before: str, run: str) -> str:
    """Where an output is now: the run may have moved since, or its path may have been relative to another folder."""
    if address.startswith(before):
        return storage.join(run, address.removeprefix(before))
    place = addresses.split(address)
    if place is not None and place[0].startswith(before):
        return addresses.join(storage.join(run, place[0].removeprefix(before)), place[1])
    return address
