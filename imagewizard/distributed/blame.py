"""Finds images that end the processes that work on them, so that they get error rows and all others are done.

The cluster holds a record of each block at work. Whoever finds one takes the block over from a process that has ended.
Which image did it is not known then; so the block is done alone in its process, image by image, and the record says
which one is at which stage. An image that has ended TIMES processes so is to blame.

Ray's own limit of retries will not do: it also counts each attempt to reach an actor whose node is lost.
"""

import copy
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.experimental import internal_kv

from imagewizard.errors import JobError

# One may be chance: a node that is lost ends what is at work there.
TIMES = 2
# Processes that a block may end before any of its images is at work, and images of a block that may be to blame. More
# mean that something else is wrong.
MOST_UNEXPLAINED, MOST_BLAMED = 4, 8
_NAMESPACE = "imagewizard"
_NEW: dict[str, Any] = {"is_at_work": False, "at": None, "ended": {}, "unexplained": 0}


class Watch:
    """The record of a block. Ray must run."""

    def __init__(self, run: str, block: str) -> None:
        """Raises JobError if the block has ended too many processes."""
        self._block = block
        self._key = f"{ray.get_runtime_context().get_job_id()}/{run}/{block}"
        found = internal_kv._internal_kv_get(self._key, namespace=_NAMESPACE)
        self._record: dict[str, Any] = json.loads(found) if found else copy.deepcopy(_NEW)
        if self._record["is_at_work"]:
            self._count()
        self.is_careful = bool(self._record["ended"] or self._record["unexplained"])
        """Whether the block has ended a process: then it is done alone, image by image, each by `image`."""

    def _count(self) -> None:
        """Counts a process that has ended."""
        if self._record["at"] is None:
            self._record["unexplained"] += 1
        else:
            image_id, stage = self._record["at"]
            self._record["ended"].setdefault(image_id, []).append(stage)
        self._write(is_at_work=False, at=None)
        if self._record["unexplained"] >= MOST_UNEXPLAINED:
            what = f"block {self._block} has ended {MOST_UNEXPLAINED} processes, one after the other"
            raise JobError(f"{what}; it may take too much memory")
        if len(self.blamed) > MOST_BLAMED:
            what = f"{len(self.blamed)} images of block {self._block} have each ended {TIMES} processes"
            raise JobError(f"{what}; something else may be wrong with the machine")

    @property
    def blamed(self) -> dict[str, str]:
        """{image_id: the stage in which it has ended processes}."""
        ended = self._record["ended"].items()
        return {image_id: Counter(stages).most_common(1)[0][0] for image_id, stages in ended if len(stages) >= TIMES}

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """If the process ends in this context, the block may be why."""
        self._write(is_at_work=True, at=None)
        yield
        self._write(is_at_work=False, at=None)

    def image(self, image_id: str, stage: str) -> None:
        """Says that an image comes to a stage, in the context `at_work`."""
        self._write(at=(image_id, stage))

    def end(self) -> None:
        """The block is done."""
        internal_kv._internal_kv_del(self._key, namespace=_NAMESPACE)

    def _write(self, **changes: Any) -> None:
        self._record |= changes
        internal_kv._internal_kv_put(self._key, json.dumps(self._record), namespace=_NAMESPACE)
