"""A bulk run and its page."""

from pathlib import Path

import pytest

from tests.support.pages import HOSTILE, Page, page_of
from tests.support.run_folders import error_row, finished_run, write_job, write_rows, write_summary


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 5 photos at 3 levels, denoised images kept, and a few failures with hostile names."""
    run = finished_run(tmp_path_factory.mktemp("whole"), images=5)
    failed = [
        error_row(f"{HOSTILE}{number}.jpg", "decode", f"broken header: {HOSTILE}", sigma=15.0) for number in range(4)
    ]
    write_rows(run, [*failed, error_row("\x00bell\x07.jpg", "read", "timed out", sigma=15.0)], block=1)
    write_job(run, 5, noise={"sigma": [15, 25, 50]}, images={"format": "png"}, seed=3, input=HOSTILE)
    write_summary(run, session={"rows_per_second": 1.5, "steady_rows_per_second": 2.25})
    return run


@pytest.fixture(scope="session")
def whole_page(whole_run: Path) -> Page:
    return page_of(whole_run)
