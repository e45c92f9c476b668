"""Queries that have a name. Nothing is imported here, so that a command lists them at once."""

from typing import NamedTuple


class Canned(NamedTuple):
    """A query that has a name."""

    description: str
    sql: str


CANNED: dict[str, Canned] = {
    "summary": Canned(
        "per run, mode and sigma: images, errors, mean PSNR and SSIM before and after, mean seconds an image",
        """
        SELECT run, mode, sigma, count(*) AS images, count(*) FILTER (status = 'ok') AS ok,
               count(*) FILTER (status = 'error') AS errors, avg(psnr_noisy) AS psnr_noisy, avg(psnr) AS psnr,
               avg(psnr - psnr_noisy) AS gain, avg(ssim_noisy) AS ssim_noisy, avg(ssim) AS ssim, avg(seconds) AS seconds
        FROM results GROUP BY run, mode, sigma ORDER BY run, mode, sigma""",
    ),
    "worst": Canned(
        "the 20 images that gained least PSNR",
        """
        SELECT run, image_id, sigma, psnr_noisy, psnr, psnr - psnr_noisy AS gain, ssim_noisy, ssim, width, height
        FROM results WHERE gain IS NOT NULL ORDER BY gain, run, image_id, sigma LIMIT 20""",
    ),
    "best": Canned(
        "the 20 images that gained most PSNR",
        """
        SELECT run, image_id, sigma, psnr_noisy, psnr, psnr - psnr_noisy AS gain, ssim_noisy, ssim, width, height
        FROM results WHERE gain IS NOT NULL ORDER BY gain DESC, run, image_id, sigma LIMIT 20""",
    ),
    "errors": Canned(
        "failed images counted by stage and reason, each with an example",
        """
        SELECT run, stage, error, count(*) AS images, min(uri) AS example
        FROM results WHERE status = 'error' GROUP BY run, stage, error ORDER BY images DESC, run, stage, error""",
    ),
    "histogram": Canned(
        "how the gain in PSNR is distributed, in steps of 1 dB, for each run and sigma",
        """
        SELECT run, sigma, CAST(floor(psnr - psnr_noisy) AS INTEGER) AS gain_from, gain_from + 1 AS gain_to,
               count(*) AS images, bar(images, 0, max(images) OVER (PARTITION BY run, sigma), 30) AS share
        FROM results WHERE gain_from IS NOT NULL GROUP BY run, sigma, gain_from ORDER BY run, sigma, gain_from""",
    ),
    "slowest": Canned(
        "the 20 images that took longest",
        """
        SELECT run, image_id, sigma, mode, steps, width, height, seconds
        FROM results WHERE seconds IS NOT NULL ORDER BY seconds DESC, run, image_id, sigma LIMIT 20""",
    ),
    "by-size": Canned(
        "images, time and gain by image size, in classes that double",
        """
        SELECT run, power(2, floor(log2(megapixels))) AS megapixels_from, 2 * megapixels_from AS megapixels_to,
               count(*) AS images, avg(seconds) AS seconds, sum(megapixels) / sum(seconds) AS megapixels_per_s,
               avg(psnr - psnr_noisy) AS gain
        FROM (SELECT *, width * height / 1e6 AS megapixels FROM results WHERE status = 'ok')
        GROUP BY run, megapixels_from ORDER BY run, megapixels_from""",
    ),
}
