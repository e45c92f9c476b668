"""python cluster/local.py: what it prints, who gets in, and that nothing of it is left, however it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import local_cluster
from tests.support.local_cluster import SCRIPT, LocalCluster


def nodes(cluster: LocalCluster, token: str | None = None) -> list[dict]:
    """What Ray says of the cluster's nodes."""
    token = token or Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    request = urllib.request.Request(f"{cluster.address}/api/v0/nodes", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["data"]["result"]["result"]


def alive(cluster: LocalCluster) -> dict[str, dict[str, float]]:
    """{name: CPUs and GPUs} of the living nodes."""
    found = {}
    for node in nodes(cluster):
        if node["state"] == "ALIVE":
            total = node["resources_total"]
            found[node["labels"]["local-node"]] = {name: total[name] for name in ("CPU", "GPU") if name in total}
    return found


def left_of(folder: str) -> list[str]:
    """The commands of the living processes that know the cluster's folder: Ray names it to each of them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            named = str((process / "cwd").readlink())
            name = (process / "comm").read_text().strip()
        except OSError:
            continue
        if folder.encode() in known or named.startswith(folder):
            found.append(name)
    return found


def wait_until_gone(folder: str) -> None:
    deadline = time.monotonic() + 30
    while (left := left_of(folder)) or Path(folder).exists():
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def test_help_needs_no_cluster() -> None:
    shown = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--cpus-per-node" in shown
    assert "kill NODE" in shown


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster.running(2) as cluster:
        yield cluster


@pytest.mark.long
def test_the_exports_come_last_and_hold_no_token(cluster: LocalCluster) -> None:
    path = Path(cluster.environment["RAY_AUTH_TOKEN_PATH"])
    printed = cluster.lines[: 1 + next(i for i, line in enumerate(cluster.lines) if "API_SERVER" in line)]
    assert printed[-3:-1] == ["export RAY_AUTH_MODE=token", f"export RAY_AUTH_TOKEN_PATH={path}"]
    assert re.fullmatch(r"export RAY_API_SERVER_ADDRESS=http://127\.0\.0\.1:\d+", printed[-1])
    assert re.fullmatch(r"# GCS address.* [\d.]+:\d+", printed[-4])
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() not in "\n".join(printed)


@pytest.mark.long
def test_nobody_gets_in_without_the_token(cluster: LocalCluster) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{cluster.address}/api/jobs/", timeout=30)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        nodes(cluster, token="0" * 64)


@pytest.mark.long
def test_nodes_come_and_go(cluster: LocalCluster) -> None:
    assert alive(cluster) == {"head": {}, "node-1": {"CPU": 1}, "node-2": {"CPU": 1}}
    assert cluster.add_node(cpus=2, gpus=1) == "node-3"
    assert alive(cluster)["node-3"] == {"CPU": 2, "GPU": 1}
    cluster.kill_node("node-2")
    cluster.remove_node("node-3")
    with pytest.raises(RuntimeError, match="there is no node 'node-2'"):
        cluster.kill_node("node-2")
    with pytest.raises(RuntimeError, match="commands: add"):
        cluster.kill_node("head")
    deadline = time.monotonic() + 45
    while alive(cluster).keys() != {"head", "node-1"}:  # Ray takes seconds to give up a node
        assert time.monotonic() < deadline
        time.sleep(1)


@pytest.mark.long
def test_nothing_is_left_after_kill_9() -> None:
    cluster = local_cluster.start(1)
    folder = str(Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).parent)
    assert len(left_of(folder)) > 5
    cluster.process.kill()
    wait_until_gone(folder)


@pytest.mark.long
def test_nothing_is_left_where_each_of_its_own_processes_is_sent_sigterm() -> None:
    """As `pkill -f cluster/local.py` does."""
    cluster = local_cluster.start(1)
    folder = str(Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).parent)
    for pid in (cluster.process.pid, *keepers_of(cluster.process.pid)):
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGTERM)
    assert cluster.process.wait(30) == 143
    wait_until_gone(folder)


@pytest.mark.long
def test_ctrl_c_and_sigterm_stop_it_even_while_it_starts(cluster: LocalCluster) -> None:
    process = subprocess.Popen([sys.executable, SCRIPT, "3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while (line := process.stderr.readline()) != "node-1 has joined\n":  # a head may need a second start
        assert line, process.wait(30)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    folder = str(Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).parent)
    assert len(left_of(folder)) > 5  # the other cluster's
    assert cluster.stop() == 143
    wait_until_gone(folder)


@pytest.mark.long
def test_a_head_that_dies_while_nodes_start_is_started_anew() -> None:
    process = subprocess.Popen([sys.executable, SCRIPT, "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while len(starters := starts_of(process.pid)) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(starters[0], signal.SIGKILL)
    cluster = LocalCluster(process, 1)
    try:
        assert alive(cluster).keys() == {"head", "node-1"}
    finally:
        assert cluster.stop() == 143


def starts_of(pid: int) -> list[int]:
    """The pids of the `ray start` of each node below a process, the head's first."""
    keepers = keepers_of(pid)
    return sorted(
        int(own) for own, parent, words in processes() if parent in keepers and "ray.scripts.scripts start" in words
    )


def keepers_of(pid: int) -> set[str]:
    """The pid of what keeps the nodes for a process in the foreground, once it is there."""
    return {own for own, parent, _ in processes() if parent == str(pid)}


def processes() -> list[list[str]]:
    """[pid, pid of the parent, words] of each process."""
    found = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    return [line.split(maxsplit=2) for line in found.splitlines()]
