"""A cluster of several nodes for tests: cluster/local.py as a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "cluster" / "local.py"


class LocalCluster:
    """A running cluster; its lines are read, and commands are given to it."""

    def __init__(self, process: "subprocess.Popen[str]", nodes: int) -> None:
        """Waits until all `nodes` have joined. Raises RuntimeError if the process ends before that."""
        self.process = process
        self.lines: list[str] = []
        """What it has printed, in order."""
        self.nodes: list[str] = []
        """The names of the nodes that it has beside the head, in the order in which they joined."""
        while "RAY_API_SERVER_ADDRESS" not in self._read():
            pass
        self.nodes += [f"node-{number + 1}" for number in range(nodes)]

    @property
    def environment(self) -> dict[str, str]:
        """What its user exports."""
        exports = [re.fullmatch("export ([A-Z_]+)=(.*)", line) for line in self.lines]
        return {found[1]: found[2] for found in exports if found}

    @property
    def address(self) -> str:
        """Of the dashboard, where jobs are submitted."""
        return self.environment["RAY_API_SERVER_ADDRESS"]

    @property
    def gcs_address(self) -> str:
        """For a driver outside: `resources.address`."""
        return next(line for line in self.lines if line.startswith("# GCS address")).split()[-1]

    def add_node(self, cpus: int = 1, gpus: int = 0) -> str:
        """Returns the name of the new node, which has joined. The first nodes are called node-1, node-2, …"""
        self.nodes.append(self._ask(f"add {cpus} {gpus}", "has joined").split()[1])
        return self.nodes[-1]

    def remove_node(self, name: str) -> None:
        """Stops a node as `ray stop` does."""
        self._ask(f"remove {name}", f"{name} has left")
        self.nodes.remove(name)

    def kill_node(self, name: str) -> None:
        """Kills all processes of a node with -9, the raylet first."""
        self._ask(f"kill {name}", f"{name} is killed")
        self.nodes.remove(name)

    def stop(self) -> int:
        """Stops it as SIGTERM does, and returns its exit code."""
        self.process.terminate()
        return self.process.wait(60)

    def _ask(self, command: str, expected: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        answer = self._read()
        if expected not in answer:
            raise RuntimeError(f"cluster/local.py answered {command!r} with {answer!r}")
        return answer

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"cluster/local.py has ended with {self.process.wait(60)} after {self.lines}")
        self.lines.append(line.rstrip("\n"))
        return line


def start(
    nodes: int, cpus_per_node: int = 1, gpus_per_node: int = 0, environment: Mapping[str, str] = {}
) -> LocalCluster:
    """Starts a cluster, whose processes have `environment` beside ours. Some 12 s, and 3 s for each node."""
    process = subprocess.Popen(
        [
            *(sys.executable, SCRIPT, str(nodes)),
            *(f"--cpus-per-node={cpus_per_node}", f"--gpus-per-node={gpus_per_node}"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        return LocalCluster(process, nodes)
    except BaseException:
        process.terminate()
        raise


@contextmanager
def running(
    nodes: int, cpus_per_node: int = 1, gpus_per_node: int = 0, environment: Mapping[str, str] = {}
) -> Iterator[LocalCluster]:
    """As `start`, and stops it in the end."""
    cluster = start(nodes, cpus_per_node, gpus_per_node, environment)
    try:
        yield cluster
    finally:
        cluster.stop()
