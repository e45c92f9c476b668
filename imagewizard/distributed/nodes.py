"""Checks, before any work, that each node of a cluster has the package, and sees the files of a job."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray

from imagewizard import __version__, storage
from imagewizard.distributed import cluster
from imagewizard.errors import JobError, UserError, one_line
from imagewizard.progress import Reporter
from imagewizard.storage.lease import lease_id

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
    size: int | None
    """Of the witness, as the driver sees it (`_size`)."""
    by_models: bool = False
    """Whether only nodes on which models run use it, instead of all that work."""

    def trouble(self, later: bool) -> str | None:
        """What is wrong with it here, if anything is. `later`: while the job runs, in which files may come and go."""
        if later and _holds_anything(self.path):
            return None
        size = _size(self.witness)
        if size == self.size:
            return None
        return f"{Path(self.witness).name} {'is not there' if size is None else 'is another one'}"


def local_paths(key: str, sources: str | Sequence[str] | None, by_models: bool = False) -> list[Needed]:
    """Those of `sources` that are paths on this machine; the others, s3:// for example, look the same from anywhere."""
    found = [sources] if isinstance(sources, str) else sources or []
    paths = [str(path) for each in found if (path := storage.local_path(storage.absolute(each))) is not None]
    witnesses = [(path, _witness(path)) for path in paths]
    return [Needed(key, path, witness, _size(witness), by_models) for path, witness in witnesses]


def _witness(path: str) -> str:
    if not Path(path).is_dir():
        return path
    with os.scandir(path) as entries:
        return next((entry.path for entry in entries), path)


def _size(path: str) -> int | None:
    """Bytes of a file, -1 for a folder, None if there is neither."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return -1 if stat.S_ISDIR(found.st_mode) else found.st_size


def _holds_anything(path: str) -> bool:
    """Whether there is a file, or a folder with something in it; without listing the folder, which may be large."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    except NotADirectoryError:
        return True
    except OSError:
        return False


@dataclass(frozen=True)
class View:
    """What the driver sees of a job's files. It travels to where they are used, and is compared there."""

    needed: tuple[Needed, ...]
    run: str
    lease: str
    """The id of the run's lease. A node that sees another one sees another folder: its rows would be lost."""

    def check(self, with_models: bool, later: bool = False) -> None:
        """Raises UserError, which names this node, if it sees another thing.

        `with_models`: whether models run here. `later`: for nodes that join while the job runs.
        """
        for each in self.needed:
            if (with_models or not each.by_models) and (trouble := each.trouble(later)):
                what = f"{each.path} on {_here()} is not what the driver sees ({trouble})"
                raise UserError(what, "give a path on a disk that all nodes share, or an s3:// URI", each.key)
        if storage.local_path(self.run) is not None and self._lease_here() != self.lease:
            what = f"{self.run} on {_here()} is not the folder that the driver sees"
            raise UserError(what, "give a folder on a disk that all nodes share, or an s3:// URI", "output")

    def _lease_here(self) -> str | None:
        try:
            return lease_id(self.run)
        except OSError:
            return None


def _here() -> str:
    return _name(ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id())


def _name(address: str, node_id: str) -> str:
    """Several nodes may share a machine and its address, but not the id."""
    return f"node {address} ({node_id[:8]})"


def check(view: View, gpus_per_model: float | Literal["auto"], report: Reporter) -> None:
    """Asks each node that will work for the version of this package, and for the view. Does nothing on a single node.

    `gpus_per_model`: of the config; models run on nodes with GPUs alone if it is not 0, or auto and the cluster has
    GPUs. Ray must be running. Raises UserError, which names the node; JobError if a node does not answer. Nodes that
    join later are asked by what runs there.
    """
    gpus = ray.cluster_resources().get("GPU", 0) > 0 if gpus_per_model == "auto" else gpus_per_model > 0
    here = ray.get_runtime_context().get_node_id()
    working = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
    others = [node for node in working if node["NodeID"] != here]
    if not others:
        return
    report(f"nodes    {len(working)} work; asking each for its version and files")
    asked = {
        _look.options(scheduling_strategy=cluster.only_on(node["NodeID"])).remote(
            view, not gpus or node["Resources"].get("GPU", 0) > 0, __version__
        ): node
        for node in others
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    if silent:
        raise JobError(f"{_name_of(asked[silent[0]])} starts no worker within {ANSWER_SECONDS:g} s")
    for answer in answered:
        _check_answer(answer, asked[answer])


@ray.remote(num_cpus=0, max_retries=0)
def _look(view: View, with_models: bool, version: str) -> None:
    """Raises UserError if this node has another version of this package, or another view."""
    # Ray sends a decorated function with the values of its globals: the driver's version, but for this import.
    from imagewizard import __version__

    if version != __version__:
        raise UserError(f"{_here()} has imagewizard {__version__}, the driver {version}", _install(version))
    view.check(with_models)


def _check_answer(answer: ray.ObjectRef, node: dict[str, Any]) -> None:
    try:
        ray.get(answer)
    except _GONE:
        if node["NodeID"] in {each["NodeID"] for each in ray.nodes() if each["Alive"]}:
            raise
        # else it has died meanwhile, and will not work
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        if not isinstance(error.cause, ImportError | AttributeError):
            raise
        what = f"{_name_of(node)} lacks this version of imagewizard ({one_line(error.cause)})"
        raise UserError(what, _install(__version__)) from None


def _name_of(node: dict[str, Any]) -> str:
    return _name(node["NodeManagerAddress"], node["NodeID"])


def _install(version: str) -> str:
    return f"install imagewizard {version} on all nodes, in the same image or environment"
