"""A node of a cluster with mounts and processes of its own, as on another machine: our files can be hidden from it.

Linux's namespaces stand in for the machine; the node is a real one. Needs the right to mount, as root often has.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.support.local_cluster import LocalCluster

START_SECONDS = 120.0
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def available() -> bool:
    """Whether this user may make namespaces and mount in them."""
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*_NAMESPACES, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0


@contextmanager
def joined(
    cluster: LocalCluster,
    log: Path,
    hidden: Sequence[Path] = (),
    replaced: Mapping[Path, Path] = {},
    gpus: int = 0,
    environment: Mapping[str, str] = {},
) -> Iterator[None]:
    """A node of one CPU, with `environment` beside the cluster's. It has joined when the context begins.

    It sees empty folders where `hidden` are, and of each pair of files in `replaced` the second in place of the first.
    """
    mounts = 'mount -t tmpfs none "$1" && shift && ' * len(hidden)
    mounts += 'mount --bind "$2" "$1" && shift 2 && ' * len(replaced)
    paths = [*hidden, *(path for pair in replaced.items() for path in pair)]
    start = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--address={cluster.gcs_address}"),
        *("--disable-usage-stats", "--num-cpus=1", f"--num-gpus={gpus}", "--object-store-memory=100000000"),
        *("--dashboard-agent-listen-port=0", "--metrics-export-port=0", "--include-log-monitor=false"),
    ]
    before = _alive(cluster)
    with log.open("wb") as output:
        node = subprocess.Popen(
            [*_NAMESPACES, "sh", "-c", f'{mounts}exec "$@"', "sh", *map(str, paths), *start],
            env=os.environ | cluster.environment | environment,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _alive(cluster) - before:
            if node.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the node has not joined: {log.read_text()[-2000:]}")
            time.sleep(0.3)
        yield
    finally:
        # `ray start` ends the node's other processes, and takes leave of the cluster.
        for child in Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGTERM)
        try:
            node.wait(60)  # after a drain of at most 30 s
        finally:
            node.kill()


def start_head(folder: Path, port: int, environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """A cluster of one node, with its dashboard at `port` of the loopback. Killing the process kills all of it at once.

    Returns while it is starting. It takes `port + 1` too. `folder`: for its files, with a short path.
    """
    start = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0", "--num-cpus=2"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={port}", f"--temp-dir={folder}", "--disable-usage-stats"),
        *("--dashboard-agent-listen-port=0", "--metrics-export-port=0", "--object-store-memory=200000000"),
        f"--ray-client-server-port={port + 1}",
    ]
    with log.open("wb") as output:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            [*_NAMESPACES, *start], env=os.environ | environment | {"PATH": path}, stdout=output, stderr=output
        )


def _alive(cluster: LocalCluster) -> set[str]:
    """The ids of the nodes that Ray takes for alive: one that was killed stays so for some 20 s."""
    secret = Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    answer = requests.get(
        f"{cluster.address}/api/v0/nodes", headers={"Authorization": f"Bearer {secret}"}, timeout=60
    ).json()
    return {node["node_id"] for node in answer["data"]["result"]["result"] if node["state"] == "ALIVE"}
