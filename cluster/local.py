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
import os
import select
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from local_nodes import START_ATTEMPTS, Cluster, HeadLostError, StartError, Stopped
from local_processes import adopt_orphans, kill_descendants


def keep(options: argparse.Namespace, commands: int) -> int:
    """Runs the cluster until `commands` ends, a file descriptor whose other end the process in the foreground holds."""

    def stop(number: int, frame: object) -> None:
        raise Stopped

    adopt_orphans()
    signal.signal(signal.SIGTERM, stop)  # `pkill -f cluster/local.py` reaches this process too
    folder = Path(tempfile.mkdtemp(prefix="iw-", dir="/tmp"))  # short, and of this user alone
    try:
        cluster = _started(folder, options, commands)
        print(f"# GCS address, for resources.address: {cluster.gcs_address}")
        print("export RAY_AUTH_MODE=token")
        print(f"export RAY_AUTH_TOKEN_PATH={cluster.token_path}")
        print(f"export RAY_API_SERVER_ADDRESS={cluster.api_address}", flush=True)
        return _obey(cluster, options, commands)
    except Stopped:
        return 0
    except StartError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
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
        raise Stopped(number)

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
    except Stopped as stopped:
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
