"""A run with every kind of row, and queries on it."""

from pathlib import Path
from typing import Any

from imagewizard.query import sql
from tests.support.run_folders import error_row, row, write_job, write_rows


def write_run(folder: Path) -> Path:
    """Three images at two levels; one image fails once and then succeeds, another always fails."""
    write_job(folder, 4, noise={"sigma": [25, 50]})
    write_rows(
        folder,
        [
            row("a.png", psnr=28.0, seconds=1.0),
            row("a.png", sigma=50.0, psnr_noisy=14.15, psnr=26.0, seconds=2.0),
            row("b/ü.png", psnr=31.5, ssim=None, seconds=3.0),
            error_row("c.png", "read", "timed out"),
        ],
    )
    write_rows(folder, [error_row("d.png", "decode", "truncated file"), row("e.png", psnr=20.0)], block=1)
    write_rows(folder, [row("c.png", psnr=30.0, attempt=2)], attempt=2)
    write_rows(folder, [error_row("d.png", "decode", "truncated again", attempt=2)], block=1, attempt=2)
    write_rows(folder, [row("f.png", psnr=29.0)], shard=1)
    return folder


def rows_of(run: Path | str, query: str) -> list[dict[str, Any]]:
    """All rows, the column `run` included."""
    with sql.connect([str(run)]) as connection:
        return sql.records(connection, query)
