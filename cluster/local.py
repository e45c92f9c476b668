"""A real Ray cluster of several nodes on this machine, for development and tests: `python cluster/local.py 3`.

Each node is a raylet with workers of its own, as on separate machines; all run as this user, and see the same files.
The head has no CPUs, so work happens on the N worker nodes. Token authentication is on, the dashboard is on loopback.
It stays in the foreground and prints what a shell must export to use it. Ctrl-C, SIGTERM or its death stop everything.
Needs Linux.

Lines on stdin change the cluster while it runs; each is answered by a line that begins with `#`:
  add [CPUS [GPUS]]   starts a node; without numbers it is like the first ones
  remove NODE         stops a node as `ray stop` does: Ray is told that it leaves
  kill NODE           kills all processes of a node with -9, as if its machine had lost power
"""

import argparse
import ctypes
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

OBJECT_STORE_BYTES = 500_000_000
# Nodes start one after the other: two that start at once on two cores can run into limits that Ray has hard-coded.
START_SECONDS = 90.0
START_ATTEMPTS = 3
STOP_SECONDS = 10.0
# The label that tells nodes apart; all have the same IP address.
LABEL = "local-node"


class Process(NamedTuple):
    """A line of /proc."""

    pid: int
    parent: int
    session: int
    name: str


def descendants(ancestor: int) -> list[Process]:
    """The living processes below `ancestor`, which it has started or inherited."""
    children: dict[int, list[Process]] = {}
    for process in _processes("DIKRSTtWX"):
        children.setdefault(process.parent, []).append(process)
    found = children.get(ancestor, [])
    for process in found:  # grows meanwhile
        found.extend(children.get(process.pid, []))
    return found


def _processes(states: str) -> Iterator[Process]:
    """All processes in one of these states, by proc(5)'s letters."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            start, rest = (folder / "stat").read_text().rsplit(")", 1)
        except OSError:
            continue
        state, parent, _, session = rest.split()[:4]
        if state in states:
            yield Process(int(folder.name), int(parent), int(session), start.split("(", 1)[1])


def kill_descendants() -> None:
    """Kills all processes below this one with -9, and those that they start meanwhile."""
    while found := descendants(os.getpid()):
        _kill(found)
        time.sleep(0.05)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _kill(processes: list[Process], number: signal.Signals = signal.SIGKILL) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def adopt_orphans() -> None:
    """Makes this process the parent of all processes below it whose own parents die, so that none gets lost."""
    PR_SET_CHILD_SUBREAPER = 36
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


class StartError(Exception):
    """A node has not started; the text holds the end of what it printed."""


class HeadLostError(StartError):
    """The head has died while other nodes were starting."""


class _Stopped(BaseException):
    """The cluster is to stop."""


class Cluster:
    """The nodes, and the folder with their token, logs and sockets."""

    def __init__(self, folder: Path, commands: int) -> None:
        """`folder`: an empty one that only this user can read, with a short path: Ray puts sockets into it.

        `commands`: a pipe; what is being started when it ends raises _Stopped.
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
        _kill([each for each in self._processes_of(name) if each.name == "raylet"], signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(each.name == "raylet" for each in self._processes_of(name)) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.kill(name)

    def kill(self, name: str) -> None:
        """Kills a worker node's processes with -9, the raylet first. Raises KeyError if there is none of this name."""
        found = sorted(self._processes_of(name), key=lambda each: each.name != "raylet")
        process, pids = self._nodes.pop(name), {each.pid for each in found}
        while found:
            _kill(found)
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
        for process in _processes("Z"):
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
                raise _Stopped
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


def keep(options: argparse.Namespace, commands: int) -> int:
    """Runs the cluster until `commands` ends, a file descriptor whose other end the process in the foreground holds."""
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="iw-", dir="/tmp"))  # short, and of this user alone
    try:
        cluster = _started(folder, options, commands)
        print(f"# GCS address, for resources.address: {cluster.gcs_address}")
        print("export RAY_AUTH_MODE=token")
        print(f"export RAY_AUTH_TOKEN_PATH={cluster.token_path}")
        print(f"export RAY_API_SERVER_ADDRESS={cluster.api_address}", flush=True)
        return _obey(cluster, options, commands)
    except _Stopped:
        return 0
    except StartError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    finally:
        kill_descendants()
        shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path, options: argparse.Namespace, commands: int) -> Cluster:
    """A cluster whose nodes have joined. Raises StartError.

    A head whose processes start slowly, on a busy machine, may die some seconds after it has answered: it is started
    anew, with all nodes.
    """
    for attempt in range(START_ATTEMPTS):
        (place := folder / str(attempt)).mkdir()
        cluster = Cluster(place, commands)
        try:
            cluster.start_head()
            for _ in range(options.nodes):
                name = cluster.add(options.cpus_per_node, options.gpus_per_node)
                print(f"{name} has joined", file=sys.stderr, flush=True)
            return cluster
        except HeadLostError as error:
            print(error, file=sys.stderr, flush=True)
            kill_descendants()
    raise StartError(f"the head has died {START_ATTEMPTS} times")


def _obey(cluster: Cluster, options: argparse.Namespace, commands: int) -> int:
    """Answers commands until there can be no more, or until the head dies."""
    buffer = b""
    while True:
        if select.select([commands], [], [], 1.0)[0]:
            received = os.read(commands, 4096)
            if not received:
                return 0
            *lines, buffer = (buffer + received).split(b"\n")
            for line in lines:
                print(f"# {_answer(cluster, options, line.decode().split())}", flush=True)
        cluster.reap()
        for name in cluster.pop_dead():
            print(f"# {name} has died", flush=True)
            if name == "head":
                return 1


def _answer(cluster: Cluster, options: argparse.Namespace, words: list[str]) -> str:
    try:
        match words:
            case ["add", *numbers] if len(numbers) <= 2:
                defaults = [options.cpus_per_node, options.gpus_per_node]
                cpus, gpus = [int(number) for number in numbers] + defaults[len(numbers) :]
                return f"{cluster.add(cpus, gpus)} has joined"
            case ["remove", name] if name != "head":
                cluster.remove(name)
                return f"{name} has left"
            case ["kill", name] if name != "head":
                cluster.kill(name)
                return f"{name} is killed"
    except KeyError as error:
        return f"there is no node {error}"
    except (StartError, ValueError) as error:
        return str(error).replace("\n", " | ")
    return "commands: add [CPUS [GPUS]], remove NODE, kill NODE"


def stand_in_front(keeper: int, commands: int) -> int:
    """Passes stdin on to the keeper until a signal comes or the keeper ends. Returns the exit code."""

    def stop(number: int, frame: object) -> None:
        raise _Stopped(number)

    adopt_orphans()  # of a keeper that is killed
    ended = os.pidfd_open(keeper)
    sources = [ended, 0]
    # Where a background job may not read the terminal, it gets an error in place of being stopped.
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)
    code = None
    try:
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        while ended not in (ready := select.select(sources, [], [])[0]):
            try:
                line = os.read(0, 4096) if 0 in ready else b""
            except OSError:
                line = b""
            if line:
                os.write(commands, line)
            else:
                sources = [ended]
    except _Stopped as stopped:
        code = 128 + int(stopped.args[0])
    except BrokenPipeError:
        pass
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.close(commands)
    _, status = os.waitpid(keeper, 0)
    kill_descendants()
    return code if code is not None else os.waitstatus_to_exitcode(status) % 256


def main(argv: list[str] | None = None) -> int:
    """Runs the cluster. Returns 130 or 143 after Ctrl-C or SIGTERM, 1 if it does not start or its head dies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nodes", type=int, metavar="N", help="worker nodes, beside the head")
    parser.add_argument("--cpus-per-node", type=int, default=1, metavar="CPUS", help="logical CPUs (default: 1)")
    parser.add_argument("--gpus-per-node", type=int, default=0, metavar="GPUS", help="declared ones (default: 0)")
    options = parser.parse_args(argv)
    receiving, sending = os.pipe()
    # All nodes are kept by a process of a session of its own, which Ctrl-C does not reach. It stops them when the pipe
    # ends, which happens however this process ends.
    keeper = os.fork()
    if keeper == 0:
        os.close(sending)
        os.setsid()
        os._exit(keep(options, receiving))
    os.close(receiving)
    return stand_in_front(keeper, sending)


if __name__ == "__main__":
    sys.exit(main())
