"""The run that queries are tried on."""

from pathlib import Path

import pytest

from imagewizard.runs import results
from tests.support import queried_run


@pytest.fixture(params=["read at once", "scanned"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of every sort of row, read in each of the two ways."""
    if request.param == "scanned":  # as a run that is too large to be held in memory
        monkeypatch.setattr(results, "IN_MEMORY_BYTES", 0)
    return queried_run.write_run(tmp_path / "run")
