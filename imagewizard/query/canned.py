"""Queries that have a name. Only column names are imported here, so that a command lists them at once."""

from typing import NamedTuple

from imagewizard.schema import GAIN, GROUPED_SIGMA, GROUPS, MEANS, PSNR, SCORES

# Counts of rows, and the mean of each of MEANS.
AVERAGES = "count(*) AS images, count(*) FILTER (status = 'ok') AS ok, count(*) FILTER (status = 'error') AS errors"
AVERAGES += "".join(f", avg({name}) AS {name}{f', avg({GAIN}) AS gain' if name == PSNR else ''}" for name in MEANS)
# The scores of a row.
_SCORES = ", ".join(f"{name}{f', {GAIN} AS gain' if name == PSNR else ''}" for name in SCORES)


class Canned(NamedTuple):
    """A query that has a name."""

    description: str
    sql: str


CANNED: dict[str, Canned] = {
    "summary": Canned(
        "per run, mode and noise: images, errors, mean scores before and after, mean seconds an image",
        f"""
        SELECT run, mode, noise_params, {GROUPED_SIGMA}, {AVERAGES}
        FROM results GROUP BY run, mode, {GROUPS} ORDER BY run, mode, sigma, noise_params""",
    ),
    "worst": Canned(
        "the 20 images that gained least PSNR",
        f"""
        SELECT run, image_id, noise_params, sigma, {_SCORES}, width, height
        FROM results WHERE gain IS NOT NULL ORDER BY gain, run, image_id, sigma LIMIT 20""",
    ),
    "best": Canned(
        "the 20 images that gained most PSNR",
        f"""
        SELECT run, image_id, noise_params, sigma, {_SCORES}, width, height
        FROM results WHERE gain IS NOT NULL ORDER BY gain DESC, run, image_id, sigma LIMIT 20""",
    ),
    "errors": Canned(
        "failed images counted by stage and reason, each with an example",
        """
        SELECT run, stage, error, count(*) AS images, min(uri) AS example
        FROM results WHERE status = 'error' GROUP BY run, stage, error ORDER BY images DESC, run, stage, error""",
    ),
    "notes": Canned(
        "what images lost or lacked, counted, each with an example",
        """
        SELECT run, note, count(*) AS images, min(uri) AS example
        FROM (SELECT run, uri, unnest(string_split(notes, '; ')) AS note FROM results WHERE notes IS NOT NULL)
        GROUP BY run, note ORDER BY images DESC, run, note""",
    ),
    "histogram": Canned(
        "how the gain in PSNR is distributed, in steps of 1 dB, for each run and noise",
        f"""
        SELECT run, noise_params, sigma, CAST(floor({GAIN}) AS INTEGER) AS gain_from, gain_from + 1 AS gain_to,
               count(*) AS images, bar(images, 0, max(images) OVER (PARTITION BY run, noise_params, sigma), 30) AS share
        FROM results WHERE gain_from IS NOT NULL
        GROUP BY run, noise_params, sigma, gain_from ORDER BY run, sigma, noise_params, gain_from""",
    ),
    "slowest": Canned(
        "the 20 images that took longest",
        """
        SELECT run, image_id, noise_params, sigma, mode, steps, width, height, seconds
        FROM results WHERE seconds IS NOT NULL ORDER BY seconds DESC, run, image_id, sigma LIMIT 20""",
    ),
    "by-size": Canned(
        "images, time and gain by image size, in classes that double",
        f"""
        SELECT run, power(2, floor(log2(megapixels))) AS megapixels_from, 2 * megapixels_from AS megapixels_to,
               count(*) AS images, avg(seconds) AS seconds, sum(megapixels) / sum(seconds) AS megapixels_per_s,
               avg({GAIN}) AS gain
        FROM (SELECT *, width * height / 1e6 AS megapixels FROM results WHERE status = 'ok')
        GROUP BY run, megapixels_from ORDER BY run, megapixels_from""",
    ),
}
