"""Checks, before any work, that each node of a cluster has the package, and sees the files of a job."""

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from imagewizard import __version__, storage
from imagewizard.errors import JobError, UserError, one_line
from imagewizard.progress import Reporter
from imagewizard.storage.lease import LOCK, Lease

# A node starts a worker in some seconds, in a minute on a busy machine.
ANSWER_SECONDS = 120.0


# How a task ends whose node dies.
_GONE = (
    ray.exceptions.NodeDiedError,
    ray.exceptions.TaskUnschedulableError,
    ray.exceptions.WorkerCrashedError,
)


@dataclass(frozen=True)
class Needed:
    """A local file or folder that nodes will use."""

    key: str
    """The config key that names it."""
    path: str
    witness: str
    """The file itself, or something in the folder: where a disk is not mounted there is often an empty folder."""
    by_models: bool = False
    """Whether only nodes on which models run use it, instead of all that work."""


def local_paths(key: str, sources: str | Sequence[str] | None, by_models: bool = False) -> list[Needed]:
    """Those of `sources` that are paths on this machine; the others, s3:// for example, look the same from anywhere."""
    found = [sources] if isinstance(sources, str) else sources or []
    paths = [str(path) for each in found if (path := storage.local_path(storage.absolute(each))) is not None]
    return [Needed(key, path, _witness(path), by_models) for path in paths]


def _witness(path: str) -> str:
    if not Path(path).is_dir():
        return path
    with os.scandir(path) as entries:
        return next((entry.path for entry in entries), path)


def check(
    needed: Sequence[Needed], run: str, lease: Lease, gpus_per_model: float | Literal["auto"], report: Reporter
) -> None:
    """Asks each node that will work for the version of this package, for `needed`, and for the run's lease.

    A node that sees another lease than ours sees another folder: its rows would be lost. Does nothing on a single node.
    `gpus_per_model`: of the config; models run on nodes with GPUs alone if it is not 0, or auto and the cluster has
    GPUs. Ray must be running. Raises UserError, which names the node; JobError if a node does not answer.
    """
    gpus = ray.cluster_resources().get("GPU", 0) > 0 if gpus_per_model == "auto" else gpus_per_model > 0
    here = ray.get_runtime_context().get_node_id()
    working = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
    others = [node for node in working if node["NodeID"] != here]
    if not others:
        return
    report(f"nodes    {len(working)} work; asking each for its version and files")
    lock = storage.join(run, LOCK) if storage.local_path(run) is not None else None
    asked = {
        _look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            [each.witness for each in _of_node(node, needed, gpus)], lock
        ): node
        for node in others
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    if silent:
        raise JobError(f"{_name(asked[silent[0]])} starts no worker within {ANSWER_SECONDS:g} s")
    for answer in answered:
        _check_answer(answer, asked[answer], _of_node(asked[answer], needed, gpus), run, lease)


def _of_node(node: dict[str, Any], needed: Sequence[Needed], gpus: bool) -> list[Needed]:
    """What a node will use."""
    has_models = not gpus or node["Resources"].get("GPU", 0) > 0
    return [each for each in needed if has_models or not each.by_models]


@ray.remote(num_cpus=0, max_retries=0)
def _look(paths: list[str], lock: str | None) -> tuple[str, list[int | None], str | None]:
    """(version of this package, size of each path, id in the lock file) as this node sees them."""
    # Ray sends a decorated function with the values of its globals: the driver's version, but for this import.
    from imagewizard import __version__

    try:
        found = None if lock is None else json.loads(Path(lock).read_text())["id"]
    except (OSError, ValueError):
        found = None
    return __version__, [_size(path) for path in paths], found


def _size(path: str) -> int | None:
    """Bytes of a file, -1 for a folder, None if there is neither."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return -1 if stat.S_ISDIR(found.st_mode) else found.st_size


def _check_answer(answer: ray.ObjectRef, node: dict[str, Any], needed: list[Needed], run: str, lease: Lease) -> None:
    name = _name(node)
    fix = f"install imagewizard {__version__} on all nodes, in the same image or environment"
    try:
        version, sizes, lock_id = ray.get(answer)
    except _GONE:
        if node["NodeID"] in {each["NodeID"] for each in ray.nodes() if each["Alive"]}:
            raise
        return  # it has died meanwhile, and will not work
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, ImportError | AttributeError):
            raise
        raise UserError(f"{name} lacks this version of imagewizard ({one_line(error.cause)})", fix) from None
    if version != __version__:
        raise UserError(f"{name} has imagewizard {version}, the driver {__version__}", fix)
    for each, size in zip(needed, sizes, strict=True):
        if size != _size(each.witness):
            found = "is not there" if size is None else "is another one"
            what = f"{each.path} on {name} is not what the driver sees ({Path(each.witness).name} {found})"
            raise UserError(what, "give a path on a disk that all nodes share, or an s3:// URI", each.key)
    if storage.local_path(run) is not None and lock_id != lease.id:
        what = f"{run} on {name} is not the folder that the driver sees"
        raise UserError(what, "give a folder on a disk that all nodes share, or an s3:// URI", "output")


def _name(node: dict[str, Any]) -> str:
    """Several nodes may share a machine and its address, but not the id."""
    return f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]})"
