"""The nodes of a local cluster: each a raylet with workers of its own, as on separate machines."""

import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from local_processes import Process, descendants, kill, running

OBJECT_STORE_BYTES = 500_000_000
# Nodes start one after the other: two that start at once on two cores can run into limits that Ray has hard-coded.
START_SECONDS = 90.0
START_ATTEMPTS = 3
STOP_SECONDS = 10.0
# The label that tells nodes apart; all have the same IP address.
LABEL = "local-node"


class StartError(Exception):
    """A node has not started; the text holds the end of what it printed."""


class HeadLostError(StartError):
    """The head has died while other nodes were starting."""


class Stopped(BaseException):
    """The cluster is to stop."""


class Cluster:
    """The nodes, and the folder with their token, logs and sockets."""

    def __init__(self, folder: Path, commands: int) -> None:
        """`folder`: an empty one that only this user can read, with a short path: Ray puts sockets into it.

        `commands`: a pipe; what is being started when it ends raises Stopped.
        """
        self._folder = folder
        self._end = select.poll()
        self._end.register(commands, 0)  # POLLHUP is always told
        self._token = secrets.token_hex(32)
        self.token_path = folder / "token"
        self.token_path.touch(mode=0o600)
        self.token_path.write_text(self._token)
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._started = 0
        self.api_address = self.gcs_address = ""

    def start_head(self) -> None:
        """Starts the node on which drivers of submitted jobs run. Raises StartError."""

        def options() -> list[str]:
            self._address_file.unlink(missing_ok=True)
            self.api_address = f"http://127.0.0.1:{(port := _free_port())}"
            ports = ["--port=0", f"--dashboard-port={port}", f"--ray-client-server-port={_free_port()}"]
            return ["--head", f"--temp-dir={self._folder / 'ray'}", "--dashboard-host=127.0.0.1", *ports]

        self._start("head", 0, 0, options)
        self.gcs_address = self._address_file.read_text().strip()

    def add(self, cpus: int, gpus: int) -> str:
        """Starts a node and returns its name when it has joined. Raises StartError."""
        self._started += 1
        name = f"node-{self._started}"
        self._start(name, cpus, gpus, lambda: [f"--address={self.gcs_address}", "--include-log-monitor=false"])
        return name

    def remove(self, name: str) -> None:
        """Stops a worker node as `ray stop` does. Raises KeyError if there is none of this name."""
        kill([each for each in self._processes_of(name) if each.name == "raylet"], signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(each.name == "raylet" for each in self._processes_of(name)) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.kill(name)

    def kill(self, name: str) -> None:
        """Kills a worker node's processes with -9, the raylet first. Raises KeyError if there is none of this name."""
        found = sorted(self._processes_of(name), key=lambda each: each.name != "raylet")
        process, pids = self._nodes.pop(name), {each.pid for each in found}
        while found:
            kill(found)
            found = [each for each in descendants(os.getpid()) if each.pid in pids]
        process.wait()

    def pop_dead(self) -> list[str]:
        """The nodes that have died by themselves since the last call."""
        dead = [name for name, process in self._nodes.items() if process.poll() is not None]
        for name in dead:
            del self._nodes[name]
        return dead

    def reap(self) -> None:
        """Lets orphans that have ended go. Until then they count as alive for Ray, which waits for a stopped driver."""
        nodes = {process.pid for process in self._nodes.values()}
        for process in running("Z"):
            if process.parent == os.getpid() and process.pid not in nodes:
                os.waitpid(process.pid, 0)

    @property
    def _address_file(self) -> Path:
        return self._folder / "ray" / "ray_current_cluster"

    def _start(self, name: str, cpus: int, gpus: int, options: Callable[[], list[str]]) -> None:
        for attempt in range(START_ATTEMPTS):
            command = [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
                *(*options(), f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--labels={LABEL}={name}"),
                # A second raylet would take the first one's agent port, and job submission fail for good.
                *("--dashboard-agent-listen-port=0", "--metrics-export-port=0"),
                f"--object-store-memory={OBJECT_STORE_BYTES}",
            ]
            log = self._folder / f"{name}.log"
            with log.open("wb") as output:
                # A session tells the processes of one node from those of the others.
                self._nodes[name] = subprocess.Popen(  # noqa: S603 - a command of ours
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self._environment(),
                    cwd=self._folder,
                    start_new_session=True,
                )
            if self._joins(name):
                return
            self.kill(name)
            print(f"{name} has not started, attempt {attempt + 1} of {START_ATTEMPTS}", file=sys.stderr, flush=True)
        raise StartError(f"{name} has not started. The end of its log:\n{self._log(name)}")

    def _log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")[-2000:]

    def _joins(self, name: str) -> bool:
        """Waits until the node has joined; whether it has."""
        deadline = time.monotonic() + START_SECONDS
        while self._nodes[name].poll() is None and time.monotonic() < deadline:
            if self._end.poll(0):
                raise Stopped
            if name != "head" and self._nodes["head"].poll() is not None:
                raise HeadLostError(f"the head has died. The end of its log:\n{self._log('head')}")
            if name in self._alive() and self._address_file.exists():
                return True
            time.sleep(0.2)
        return False

    def _alive(self) -> set[str]:
        """The names of the nodes that Ray takes for alive; none while the head is starting."""
        request = urllib.request.Request(  # noqa: S310 - an address of ours
            f"{self.api_address}/api/v0/nodes", headers={"Authorization": f"Bearer {self._token}"}
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
                nodes = json.load(answer)["data"]["result"]["result"]
        except (OSError, urllib.error.URLError, ValueError, TypeError, KeyError):
            return set()
        return {node["labels"].get(LABEL, "") for node in nodes if node["state"] == "ALIVE"}

    def _processes_of(self, name: str) -> list[Process]:
        """Those of a node's session, and what they have started in sessions of its own."""
        session = self._nodes[name].pid
        mine = [each for each in descendants(os.getpid()) if each.session == session]
        return list({each.pid: each for one in mine for each in [one, *descendants(one.pid)]}.values())

    def _environment(self) -> dict[str, str]:
        """This shell's, with the token, without the addresses of other clusters, and with this Python as `python`."""
        dropped = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
        return {
            **kept,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_path),
            "PATH": path,
            # Beyond one for each CPU, Ray ends workers that have been idle for a second. Where actors have the CPUs, a
            # new process, which takes seconds to start, would read each block of a bulk job.
            "RAY_idle_worker_killing_time_threshold_ms": "120000",
        }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
