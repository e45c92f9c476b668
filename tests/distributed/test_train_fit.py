"""Around Ray Train: what is reported while it runs, whose fault a failure is (fits are in test_train_job.py)."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
import ray
from PIL import Image
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayTaskError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from imagewizard.config.train import TrainTask
from imagewizard.distributed import allocation, train_fit
from imagewizard.distributed.allocation import Node, TrainingAllocation
from imagewizard.errors import JobError, UserError
from imagewizard.storage import Folder
from imagewizard.storage.lease import Lease
from tests.support.training_jobs import train_config
from tests.support.training_runs import train_row, validation_row

LOST = TrainingAllocation(least=2, most=2, threads_per_worker=1, cpus_per_worker=1.0, gpus_per_worker=0.0)


def write(run: Path, *rows: dict) -> None:
    with (run / "metrics.jsonl").open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def test_only_news_are_reported_and_each_once(tmp_path: Path) -> None:
    lines: list[str] = []
    write(tmp_path, train_row(10) | {"time": 100.0})
    follower = train_fit.Follower(str(tmp_path), 20, lines.append)
    follower.report_news()
    assert lines == []
    write(tmp_path, train_row(20) | {"time": 110.0})
    follower.report_news()
    assert len(lines) == 1 and "step 20/" in lines[0] and "/20 " in lines[0]
    assert not (tmp_path / "curves.png").exists()
    write(tmp_path, validation_row(20) | {"time": 111.0})
    follower.report_news()
    assert len(lines) == 2 and "validation" in lines[1]
    assert Image.open(tmp_path / "curves.png").size == (1440, 900)
    follower.report_news()
    assert len(lines) == 2


@pytest.mark.parametrize("where", ["local", "s3"])
def test_what_ray_train_noted_is_forgotten(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run = str(tmp_path / "run") if where == "local" else f"{request.getfixturevalue('bucket')}/run"
    train_fit.forget(run)  # of a run that has not begun
    for name in ("ray/checkpoint_manager_snapshot.json", "ray/checkpoint_1/x", "raygun/mine", "job.yaml"):
        Folder(run).write(name, b"{")
    train_fit.forget(run)
    assert not Folder(run).exists("ray") and Folder(run).exists("raygun/mine")
    assert Folder(run).list() == ["job.yaml"]


def test_the_users_mistake_is_found_in_what_ray_wraps_it_in() -> None:
    mistake = UserError("broken", "mend it", "data.train")
    wrapped = RayTaskError("train", "a traceback", mistake)
    assert train_fit._user_error(wrapped) is mistake
    try:
        raise RuntimeError("outer") from mistake
    except RuntimeError as error:
        assert train_fit._user_error(error) is mistake
    assert train_fit._user_error(ValueError("a bug")) is None


@pytest.mark.usefixtures("ray_cluster")
def test_a_training_waits_until_there_are_enough_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, lines = ray.get_runtime_context().get_node_id(), []
    config = train_config(tmp_path, tmp_path / "run", resources={"workers": 2})
    task = TrainTask(config, images=1, validation=[], micro_batch_size=2, threads=1)
    # Stands in for a cluster that has lost a node, and gets another one a little later.
    sizes = iter([1.0, 1.0, 1.0])
    monkeypatch.setattr(allocation, "nodes", lambda: [Node(here, next(sizes, 2.0), 0.0)])
    monkeypatch.setattr(train_fit, "WAITING_SECONDS", 0.01)
    with Lease(str(tmp_path / "run")) as lease:
        attempts = train_fit.Attempts(task, pa.table({}), LOST, lease, lines.append)
        assert attempts._allocate_anew().most == 2
        assert (
            lines
            == ["waiting for a node; resources.workers: 2 asked for, but the cluster's 1 CPUs have room for 1"] * 2
        )
        monkeypatch.setattr(allocation, "nodes", lambda: [Node(here, 1.0, 0.0)])
        monkeypatch.setattr(train_fit, "NODE_SECONDS", 0.02)
        with pytest.raises(JobError, match=r"room for 1, since a node was lost; with workers=\[1,N\]"):
            attempts._allocate_anew()


@pytest.mark.usefixtures("ray_cluster")
def test_a_batch_in_pieces_goes_on_with_no_more_workers_than_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ray.get_runtime_context().get_node_id()
    config = train_config(tmp_path, tmp_path / "run", resources={"workers": "auto"})
    task = TrainTask(config, images=1, validation=[], micro_batch_size=2, threads=1)
    # Stands in for a cluster that has more GPUs than when the run began and its batches of four were cut in two.
    monkeypatch.setattr(allocation, "nodes", lambda: [Node(here, 8.0, 4.0)])
    with Lease(str(tmp_path / "run")) as lease:
        assert train_fit.Attempts(task, pa.table({}), LOST, lease, print)._allocate_anew().most == 2


def test_a_stream_goes_on_from_any_step_of_a_run_with_a_time_limit(tmp_path: Path) -> None:
    config = train_config(tmp_path, tmp_path / "run", optimizer={"minutes": 1})
    task = TrainTask(config, images=1, validation=[], micro_batch_size=2, threads=1)
    assert train_fit._most_steps(task, first=10**7) > 10**7


EXIT = (
    "Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error code 2. End"
)


def dead(message: str) -> ActorDiedError:
    return ActorDiedError(ActorDiedErrorContext(error_message=message, class_name="RayTrainWorker", actor_id=bytes(16)))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            dead(f"The actor is dead because its worker process has died. {EXIT} of file. Some common causes include"),
            "Worker unexpectedly exits with a connection error code 2",
        ),
        (dead("The actor died because its node has died. Node Id: 4711\n\tthe actor's node"), "its node has died"),
        (dead("The actor is dead because it was killed by `ray.kill`."), "it was killed by `ray.kill`"),
        (ActorUnavailableError("The actor is temporarily unavailable: RpcError", bytes(16)), "it cannot be reached"),
        (OutOfMemoryError("1 worker(s) were killed"), "OutOfMemoryError: 1 worker(s) were killed"),
        (ValueError("a\nbug"), "ValueError: a bug"),
    ],
)
def test_why_a_worker_died(error: Exception, expected: str) -> None:
    assert train_fit.why_it_died(error) == expected
    assert train_fit.why_it_died(WorkerHealthCheckFailedError("A worker health check failed.", error)) == expected
