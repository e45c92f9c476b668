"""How a job joins or starts Ray, and what it leaves as it was."""

import logging
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import ray
from PIL import Image
from ray._private.utils import check_version_info
from ray.data import DataContext

from imagewizard.distributed import cluster, joining, notices, train_stream
from imagewizard.errors import UserError
from tests.support.training_jobs import picture, training_table

pytestmark = pytest.mark.usefixtures("ray_cluster")

NO = cluster.NO_BYTECODE


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What ray.init would be given, and NO_BYTECODE in the environment of the Ray that it would start."""
    calls: list[dict] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(joining, "check", lambda address: None)
    monkeypatch.setattr(ray, "init", lambda **options: calls.append(options | {"inherited": os.environ.get(NO)}))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return calls


def test_workers_of_a_local_ray_keep_bytecode(started: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NO, "1")
    cluster.start(None)
    [options] = started
    assert options["inherited"] is None and "runtime_env" not in options
    assert options["num_cpus"] == cluster.available_cpus()
    assert os.environ[NO] == "1", "our own environment is as it was"


@pytest.mark.parametrize("address", ["10.0.0.1:6379", None])
def test_workers_of_a_joined_cluster_keep_bytecode(
    started: list[dict], monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    if address is None:
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    cluster.start(address)
    assert started[0]["runtime_env"] == {"env_vars": {NO: ""}}
    assert "num_cpus" not in started[0], "which is the cluster's to know"


def test_a_ray_jobs_own_setting_of_bytecode_stands(started: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", f'{{"runtime_env": {{"env_vars": {{"{NO}": "1"}}}}}}')
    cluster.start(None)
    assert started[0]["runtime_env"] is None


def test_a_command_prints_rays_messages_in_its_own_way(started: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray._private.worker, "print_to_stdstream", None)
    cluster.start(None)
    assert ray._private.worker.print_to_stdstream is None, "other programs' processes are theirs"
    cluster.start_quietly(None)
    assert ray._private.worker.print_to_stdstream.__module__ == notices.__name__


def test_a_cluster_that_is_not_there_is_named(started: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for ask in (cluster.start, cluster.check, cluster.start_quietly):
        with pytest.raises(UserError, match=r"^resources\.address: here is no address of a Ray cluster; "):
            ask("here")


def test_a_cluster_of_another_version_is_named(started: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        assert os.environ[cluster.TRIES] == "1", "Ray's twenty tries take minutes"
        try:
            check_version_info({"ray_version": "1.2.3", "python_version": "3.9.0"}, "node 10.0.0.2")
        except RuntimeError as error:
            raise ConnectionError("Failed to connect to Ray cluster at here:1") from error

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UserError) as raised:
        cluster.start("here:1")
    message = str(raised.value)
    assert message.startswith("resources.address: here:1: Version mismatch: The cluster was started with: Ray: 1.2.3 ")
    assert "; install the same versions on both sides, " in message and cluster.TRIES not in os.environ


def test_a_cluster_that_dies_meanwhile_is_named(started: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise ConnectionError("could not\nconnect")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "here:1")
    with pytest.raises(
        UserError, match=r"^RAY_ADDRESS: the cluster at here:1 cannot be joined \(could not connect\); "
    ):
        cluster.start(None)


def test_sigterm_is_the_callers(started: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, after and within ray.init, which sets a handler of its own."""

    def init(**options: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        if options["address"] == "slow:1":
            os.kill(os.getpid(), signal.SIGTERM)

    class Ended(BaseException):
        pass

    def handler(number: int, frame: object) -> None:
        raise Ended

    monkeypatch.setattr(ray, "init", init)
    before = signal.signal(signal.SIGTERM, handler)
    try:
        cluster.start(None)
        assert signal.getsignal(signal.SIGTERM) is handler
        with pytest.raises(Ended):
            cluster.start("slow:1")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_ray_that_runs_already_is_left_as_it_is() -> None:
    before = ray.get_runtime_context().get_job_id()
    cluster.start("not-there:1")
    cluster.start_quietly("not-there:1")
    assert ray.get_runtime_context().get_job_id() == before


def test_ray_datas_messages_are_off_the_console_only_meanwhile() -> None:
    console = next(each for each in logging.getLogger("ray.data").handlers if isinstance(each, logging.StreamHandler))
    before = console.level
    with cluster.quiet_data():
        assert console.level == logging.CRITICAL
    assert console.level == before < logging.CRITICAL


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that are made in this process."""
    made: list[float] = []
    sleep = cluster.time.sleep
    monkeypatch.setattr(
        cluster, "time", type("Clock", (), {"sleep": lambda s: (made.append(s), sleep(s)), "monotonic": time.monotonic})
    )
    return made


def test_a_configured_chain(pauses: list[float]) -> None:
    dataset = ray.data.range(3)
    cluster.configure(dataset.context)
    rows = dataset.map(lambda row: row).take_all()
    assert sorted(row["id"] for row in rows) == [0, 1, 2]
    assert set(pauses) == {cluster.Pace.pause}


def test_the_rounds_of_a_slow_chain_become_rarer(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    cluster.time.monotonic = lambda: now
    pace = cluster.SlowPace()
    for now in (100.0, 120.0, 1000.0):  # noqa: B007 - the clock reads it
        pace.on_execution_step(None)
    assert pauses == [pace.pause, pytest.approx(0.1), pace.most]


def test_other_chains_of_the_process_are_left_as_they_were(pauses: list[float]) -> None:
    before = DataContext.get_current().copy()
    cluster.configure(ray.data.range(3).context)
    assert len(ray.data.range(3).map(lambda row: row).take_all()) == 3 and not pauses
    after = DataContext.get_current()
    for name in ("enable_progress_bars", "target_max_block_size", "raise_original_map_exception", "execution_options"):
        assert getattr(after, name) == getattr(before, name), name


def test_a_trainings_stream(tmp_path: Path, pauses: list[float]) -> None:
    Image.fromarray(picture(20, 20, 0)).save(tmp_path / "only.png")
    images = ray.put(training_table(tmp_path))
    samples = train_stream.StreamSamples(images, 1, 0, crop=16, small="pad", camera=0, noisy=False, micro_batch_size=1)
    dataset = train_stream.build(samples, 0, 3, 0.0)
    assert dataset.context.custom_execution_callback_classes == [cluster.Pace]
    assert len(dataset.take_all()) == 3 and pauses
