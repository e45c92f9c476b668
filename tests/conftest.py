"""What tests share: one Ray cluster for the session, and the development data where there is any."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from imagewizard import cluster

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A real Ray cluster on this machine, as a job starts it; the session's jobs find it there and join it."""
    cluster.start(None)
    yield
    ray.shutdown()


@pytest.fixture
def shared_data() -> Path:
    """The folder of development data beside the repository; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the development data in ../shared/data, which is not there")
    return SHARED_DATA
