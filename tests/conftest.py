"""What tests share: a Ray cluster and an S3 server for the session, and the development data where there is any."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import boto3
import pytest
import ray
from moto.server import ThreadedMotoServer
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from imagewizard import standard_streams
from imagewizard.distributed import cluster
from imagewizard.storage import s3_deleting
from tests.support import local_cluster
from tests.support.local_cluster import LocalCluster
from tests.support.s3_faults import FaultyS3

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


# What a shell starts in the background ignores Ctrl-C, and so does all that it starts; some tests send it to jobs.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests that need a GPU where there is none."""
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if not wanting:
        return
    import torch  # seconds, which a run of other tests need not wait for

    if not torch.cuda.is_available():
        config.hook.pytest_deselected(items=wanting)
        items[:] = [item for item in items if item not in wanting]


class ClustersInOneProcess(LoadFileScheduling):
    """Gives each process whole files, and one of them all that need the session's clusters.

    To start one takes a quarter of a minute of CPU time, and each that runs takes some for itself.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "clusters" if file.startswith(("tests/distributed/", "tests/end_to_end/")) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    # Most of the long tests start clusters of their own.
    schedule = LoadFileScheduling if config.option.markexpr == "long" else ClustersInOneProcess
    return schedule(config, log)


@pytest.fixture(scope="session")
def ray_cluster(faulty_s3_server: FaultyS3) -> Iterator[None]:
    """A real Ray cluster on this machine, as a job starts it; the session's jobs find it there and join it.

    Its workers inherit this process's environment as it is now: so they know the server of `faulty_s3`, and no other.
    """
    with pytest.MonkeyPatch.context() as patch:
        _use_s3(faulty_s3_server.endpoint, patch)
        cluster.start(None)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def token_cluster(s3_server: str) -> Iterator[LocalCluster]:
    """A real cluster with token authentication: a head and one node of two CPUs, which know `s3_server`."""
    with pytest.MonkeyPatch.context() as patch:
        _use_s3(s3_server, patch)
        with local_cluster.running(1, cpus_per_node=2) as running:
            yield running


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a network of random weights: results mean nothing, but everything runs, in milliseconds."""
    from tests.support.models import tiny_model  # seconds, for torch and diffusers

    return str(tiny_model(tmp_path_factory.mktemp("tiny"), k=2))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a real S3 server, moto's."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty bucket, which this process and those it starts find through AWS_ENDPOINT_URL."""
    return _new_bucket(s3_server, monkeypatch)


@pytest.fixture(scope="session")
def localbucket_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3 server that knows less than AWS's: no DeleteObjects, no If-Match."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(tmp_path_factory.mktemp("localbucket")), "--port", str(port)]
    with subprocess.Popen([sys.executable, "-m", "localbucket", *words], stderr=subprocess.DEVNULL) as server:
        while server.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        server.terminate()


@pytest.fixture
def localbucket(localbucket_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """As `bucket`, on that server."""
    return _new_bucket(localbucket_server, monkeypatch)


@pytest.fixture(scope="session")
def faulty_s3_server() -> Iterator[FaultyS3]:
    server = FaultyS3()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def faulty_s3(faulty_s3_server: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """As `bucket`, but the server: one that fails once its attributes are set. `faulty_s3.bucket` is the URI."""
    faulty_s3_server.reset()
    faulty_s3_server.bucket = _new_bucket(faulty_s3_server.endpoint, monkeypatch)
    faulty_s3_server.requests.clear()
    monkeypatch.setattr(s3_deleting, "_one_by_one", set())  # what an earlier test had it refuse is forgotten
    yield faulty_s3_server
    faulty_s3_server.reset()


def _new_bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    _use_s3(endpoint, monkeypatch)
    name = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


def _use_s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets the AWS_ variables of this process, and of those that it starts."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def unread() -> Iterator[TextIO]:
    """What stdout is once its reader has ended, as after `| head -1`. The test itself has to put it in stdout's place:
    pytest sets stdout anew between fixtures and test.
    """
    reader, writer = os.pipe()
    os.close(reader)
    yield standard_streams.wrap(writer)
    os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # or its end would complain


@pytest.fixture
def shared_data() -> Path:
    """The folder of development data beside the repository; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the development data in ../shared/data, which is not there")
    return SHARED_DATA
