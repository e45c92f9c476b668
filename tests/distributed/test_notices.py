"""Ray's own messages, as it words them."""

import pytest
import ray

from imagewizard.distributed import notices

LOST = (
    "The node with node id: 21679790d19028686261e0df8ba1e5c0d3bc7570e582e28ebee9655a and address: 192.0.2.2 and node "
    "name: 192.0.2.2 has been marked dead because the detector has missed too many heartbeats from it. This can "
    "happen when a \t(1) raylet crashes unexpectedly (OOM, etc.) \n\t(2) raylet has lagging heartbeats"
)
RETRIED = (
    "Task MapWorker(MapBatches(DenoiseActor)).submit failed. There are infinite retries remaining, so the task will be "
    "retried. Error: The actor is temporarily unavailable"
)
DEAD_RAYLET = "Raylet is terminated. Termination is unexpected. Possible reasons include:\n    [2026-11-27 13:56:41] …"
INFEASIBLE = (
    "There are tasks with infeasible resource requests that cannot be scheduled. See https://docs.ray.io/en/latest for "
    "more details. Possible solutions: 1. Updating the ray cluster"
)
DIED = (
    "A worker died or was killed while executing a task by an unexpected system error. To troubleshoot the problem, "
    "check the logs for the dead worker. Lease ID: 01 Worker ID: 02 Node ID: 03 Worker IP address: 192.0.2.2 Worker "
    "port: 10004 Worker PID: 23934 Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a "
    "connection error code 2. End of file. Some common causes include: (1) the process was killed by the OOM killer"
)
OUT_OF_MEMORY = (
    "Task _map_task failed due to oom. There are infinite oom retries remaining, so the task will be retried. Error: 1 "
    "worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: 89d1ed9e93c3) "
    "was 1.61GB used / 23.54GB limit (0.068467)"
)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is reported of Ray's messages."""
    monkeypatch.setattr(ray._private.worker, "print_to_stdstream", None)
    reported: list[str] = []
    notices.report_to(reported.append)
    return reported


def tell(*messages: str) -> None:
    for message in messages:
        ray._private.worker.print_to_stdstream({"lines": [message], "pid": "raylet", "is_err": False}, False)


def test_each_is_a_line_and_what_ray_mends_is_none(told: list[str]) -> None:
    tell(RETRIED, LOST, DEAD_RAYLET, DIED, OUT_OF_MEMORY, INFEASIBLE)
    assert told == [
        "lost     node 21679790 (192.0.2.2); its work, if it had any, goes to the others",
        "lost     a node's raylet: it was killed, or memory ran out; if it was the driver's, the job ends",
        "died     process 23934 on 192.0.2.2: Worker unexpectedly exits with a connection error code 2",
        "memory   node 192.0.2.2 ran low on it; Ray ended a worker there, and its work is done again",
        "ray      There are tasks with infeasible resource requests that cannot be scheduled",
    ]


def test_the_same_is_told_once_and_each_lost_node(told: list[str]) -> None:
    tell(INFEASIBLE, INFEASIBLE, LOST, LOST, LOST.replace("21679790", "0badcafe"))
    assert [text.split()[0] for text in told] == ["ray", "lost", "lost"]
