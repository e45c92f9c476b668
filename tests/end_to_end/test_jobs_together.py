"""Three jobs that start at once on one busy machine: on disks, on localbucket, on an S3 server that sometimes fails.

Each starts a Ray of its own. The first one's agent is late, and it has no home to write into; the second one's stdout
is closed; the third one's reader has ended.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagewizard import storage
from imagewizard.query.sql import records_of
from imagewizard.storage import Folder
from tests.support.models import tiny_model
from tests.support.s3_faults import FaultyS3
from tests.support.sample_files import write_photos

pytestmark = pytest.mark.long

IMAGES = 5
LATE_AGENT = Path(__file__).parents[1] / "support" / "late_agent"


@pytest.fixture
def busy() -> Iterator[None]:
    """Processes that want all cores for the time in which a Ray starts."""
    burn = "import time; end = time.monotonic() + 15\nwhile time.monotonic() < end: pass"
    burning = [subprocess.Popen([sys.executable, "-c", burn]) for _ in range(os.cpu_count() or 1)]
    yield
    for process in burning:
        process.kill()
        process.wait()


def start(root: str, model: Path, stdout: Any, **environment: str) -> subprocess.Popen[str]:
    """A job from `root`/in to `root`/run; `stdout` None: closed."""
    words = [f"input={root}/in", f"output={root}/run", f"model={model}", "images.format=png", "resources.block_rows=2"]
    command = [sys.executable, "-m", "jobs", "denoise", *words]
    if stdout is None:
        command = ["bash", "-c", 'exec "$@" >&-', "bash", *command]
    own = {**os.environ, **environment}
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=own)


def at(root: str, servers: dict[str, str], patch: pytest.MonkeyPatch) -> None:
    """Lets this process find the server of `root`, if that has one."""
    patch.setenv("AWS_ENDPOINT_URL", servers.get(root, ""))


def test_three_jobs_at_once(
    tmp_path: Path,
    localbucket_server: str,
    localbucket: str,
    faulty_s3: FaultyS3,
    monkeypatch: pytest.MonkeyPatch,
    busy: None,
) -> None:
    disk, model = str(tmp_path), tiny_model(tmp_path / "model", k=2)
    write_photos(tmp_path / "in", IMAGES, 48)
    servers = {localbucket: localbucket_server, faulty_s3.bucket: faulty_s3.endpoint}
    for root in servers:
        at(root, servers, monkeypatch)
        for path in (tmp_path / "in").iterdir():
            Folder(root).write(f"in/{path.name}", path.read_bytes())
    faulty_s3.slow_down, faulty_s3.cut_off, faulty_s3.refused = 0.05, 0.01, {"delete"}
    reader, writer = os.pipe()
    os.close(reader)
    late = {"PYTHONPATH": str(LATE_AGENT), "LATE_AGENT": f"{tmp_path}/late", "HOME": "/proc"}
    with (tmp_path / "out").open("w") as out:
        jobs = [
            start(disk, model, out, **late),
            start(localbucket, model, None, AWS_ENDPOINT_URL=localbucket_server),
            start(faulty_s3.bucket, model, writer, AWS_ENDPOINT_URL=faulty_s3.endpoint),
        ]
    os.close(writer)
    errors = [job.communicate(timeout=600)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0], errors
    told = (tmp_path / "out").read_text()
    assert "has not started in" in told and "(raylet.err: Timed out waiting for file metrics_agent_port)" in told
    results = []
    for root in (disk, *servers):
        at(root, servers, monkeypatch)
        rows = records_of(f"{root}/run", "SELECT image_id, status, psnr FROM attempts ORDER BY image_id")
        assert [row["status"] for row in rows] == ["ok"] * IMAGES
        assert sum(len(page) for page in storage.of(root).pages(f"{root}/run/images")) == IMAGES
        assert len(Folder(f"{root}/run/results").list()) == 1, "the blocks are compacted"
        results.append(rows)
    assert results[0] == results[1] == results[2]
    assert faulty_s3.faults["slow_down"] > 0 and faulty_s3.faults["refused"] > 0
