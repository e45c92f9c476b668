"""A submitted job's exit code, why it waits, and its log over broken connections.

tests/end_to_end/test_submit.py has the rest, on a real cluster. The stand-ins here are for what a real one does rarely.
"""

import itertools
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.dashboard.modules.job.pydantic_models import JobDetails

from imagewizard.config import load
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.distributed import submission, submitted_job
from imagewizard.distributed.job_server import Address
from imagewizard.distributed.submitted_job import SubmittedJob, exit_code
from imagewizard.errors import JobError, UserError


def details(status: str, code: int | None = None, **more: Any) -> JobDetails:
    return JobDetails(type="SUBMISSION", status=status, entrypoint="python", driver_exit_code=code, **more)


@pytest.mark.parametrize(
    ("status", "left", "code"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 1, 1),
        ("FAILED", 2, 2),
        ("FAILED", 3, 3),
        ("FAILED", 4, 4),
        ("FAILED", 143, 143),
        ("FAILED", -15, 143),
        ("FAILED", 130, 130),
        ("FAILED", 137, 1),
        ("FAILED", -9, 1),
        ("FAILED", 134, 1),
        ("FAILED", None, 1),
        ("STOPPED", None, 143),
    ],
)
def test_the_exit_code_is_the_jobs_own_and_1_where_it_left_none(status: str, left: int | None, code: int) -> None:
    assert exit_code(details(status, left)) == code


class StandInServer:
    """Stands in for a cluster: its jobs end as `endings` says, one try after the other."""

    address = Address("http://stand-in", "--address")

    def __init__(self, endings: list[int | None], nodes: list[dict[str, float]] | None = None) -> None:
        self.jobs: dict[str, JobDetails] = {}
        self.endings, self._nodes = iter(endings), nodes or []
        self.client = SimpleNamespace(tail_job_logs=self._tail)

    def submit(self, **job: Any) -> bool:
        if job["submission_id"] in self.jobs:
            return False
        left = next(self.endings)
        self.jobs[job["submission_id"]] = details("FAILED" if left else "SUCCEEDED", left, metadata=job["metadata"])
        return True

    def find(self, submission_id: str) -> JobDetails | None:
        return self.jobs.get(submission_id)

    def get(self, submission_id: str) -> JobDetails:
        return self.jobs[submission_id]

    def logs(self, submission_id: str) -> str:
        return f"log of {submission_id}\n"

    def nodes(self) -> list[dict[str, float]]:
        return self._nodes

    async def _tail(self, submission_id: str) -> AsyncIterator[str]:
        yield f"log of {submission_id}\n"


def job(server: StandInServer, *words: str, retries: int = 0) -> SubmittedJob:
    sent = submission.of_config(load(DenoiseConfig, None, ["input=/i", "output=/o", *words]))
    return SubmittedJob(server, "id", sent, retries)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, which are noted and not made."""
    made: list[float] = []
    monkeypatch.setattr(submitted_job, "POLL_SECONDS", 0.02)
    sleep = time.sleep
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda s: made.append(s) if s > 1 else sleep(s))
    monkeypatch.setattr(submitted_job, "time", clock)
    return made


@pytest.mark.parametrize(
    ("endings", "retries", "code", "tries", "paused"),
    [
        ([0], 2, 0, ["id"], []),
        ([2], 2, 2, ["id"], []),
        ([3], 2, 3, ["id"], []),
        ([130], 2, 130, ["id"], []),
        ([143], 2, 143, ["id"], []),
        ([1, 4, 0], 2, 0, ["id", "id-2", "id-3"], [5.0, 75.0]),
        ([137, 1, 1], 1, 1, ["id", "id-2"], [5.0]),
        ([1], 0, 1, ["id"], []),
    ],
)
def test_only_failures_of_the_cluster_are_tried_again(
    endings: list[int], retries: int, code: int, tries: list[str], paused: list[float], pauses: list[float]
) -> None:
    server = StandInServer(endings)
    handle, lines = job(server, retries=retries), []
    assert handle.start()
    assert handle.wait(lines.append) == code
    assert (list(server.jobs), pauses) == (tries, paused)
    assert [line for line in lines if line.startswith("log")] == [f"log of {each}" for each in tries]


def test_a_known_id_attaches_to_its_latest_try_and_goes_on_counting(pauses: list[float]) -> None:
    server = StandInServer([1, 1, 0])
    first = job(server, retries=1)
    first.start()
    assert first.wait() == 1
    again = job(server, retries=1)
    assert not again.start()
    assert again.current_id == "id-2" and again.wait() == 1 and len(server.jobs) == 2
    more = job(server, retries=2)
    assert not more.start()
    assert more.wait() == 0 and list(server.jobs) == ["id", "id-2", "id-3"]
    with pytest.raises(UserError, match=r"^--submission-id: id is the id of a job with other settings"):
        job(server, "seed=1").start()


def test_another_job_whose_id_looks_like_a_try_is_left_alone(pauses: list[float]) -> None:
    server = StandInServer([1])
    server.jobs["id-2"] = details("RUNNING", metadata=job(server, "seed=1")._submission.metadata)
    first = job(server, retries=1)
    first.start()
    again = job(server, retries=1)
    assert not again.start() and again.current_id == "id"
    with pytest.raises(UserError, match=r"^--submission-id: id-2 is the id of another job"):
        first.wait()


def test_a_driver_whose_node_is_lost_with_its_log_is_sent_again(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    server = StandInServer([None, 0])
    handle, lines = job(server, retries=1), []
    handle.start()
    server.jobs["id"] = details("FAILED", message="Traceback:\n  somewhere\nthe node has died\n")
    logs = server.logs

    def unreadable(submission_id: str) -> str:
        if submission_id == "id":
            raise JobError("its log cannot be read")
        return logs(submission_id)

    monkeypatch.setattr(server, "logs", unreadable)
    assert handle.wait(lines.append) == 0
    assert lines == [
        "log of id",
        "its log cannot be read",
        "the driver left no exit code: the node has died",
        "id ended with exit code 1; try 2 of 2 in 5 s",
        "log of id-2",
    ]


@pytest.mark.parametrize(
    ("words", "nodes", "reason"),
    [
        (["submit.gpus=4"], [{"CPU": 8, "GPU": 2}], "its driver asks for 4 GPUs, the cluster has 2"),
        (
            ["submit.gpus=3"],
            [{"GPU": 2}, {"GPU": 2}],
            "its driver asks for 3 GPUs, which no node has: the largest has 2",
        ),
        (["submit.cpus=1"], [{"CPU": 1}], "other jobs hold what its driver asks for (1 CPU)"),
        ([], [{}], "Job has not started"),
    ],
)
def test_why_a_job_is_pending(words: list[str], nodes: list[dict[str, float]], reason: str) -> None:
    handle = job(StandInServer([], nodes), *words)
    assert handle._why_pending(details("PENDING", message="Job has not started")) == reason


def test_a_log_is_told_once_over_broken_connections(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    log = "".join(f"line {number}\n" for number in range(40)) + "no end of line"
    connections = itertools.count(1)

    async def breaking(submission_id: str) -> AsyncIterator[str]:
        """Each connection begins at the log's beginning, and breaks 100 characters later than the one before."""
        reach = 100 * next(connections)
        for start in range(0, min(reach, len(log)), 7):
            yield log[start : min(start + 7, reach)]
        if reach < len(log):
            raise RuntimeError("WebSocket connection closed unexpectedly")

    server = StandInServer([0])
    server.client.tail_job_logs = breaking
    tail = submitted_job._Tail(server, "id")
    seen: list[str] = []
    while len(seen) < 20:
        seen += tail.lines(0.5)
    seen += tail.rest(log)
    assert seen == log.split("\n")
    assert next(connections) > 2, "it has connected more than once"
