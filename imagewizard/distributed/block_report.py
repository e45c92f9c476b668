"""What an actor tells the driver of a block that it has committed."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa
import ray
from ray.data import Dataset

from imagewizard.gpu_usage import GpuUsage


@dataclass(frozen=True)
class BlockReport:
    """Of one block."""

    block: str
    """The name of its result file."""
    rows: int
    failed: int
    seconds: float
    """What the actor has spent on it."""
    gpu: GpuUsage | None = None
    """The actor's, then; None without one."""

    def packed(self) -> pa.Table:
        """A row of one text column: with a column for each value the driver would take twice as long to read it."""
        return pa.table({"report": [json.dumps(asdict(self))]})

    @classmethod
    def unpack(cls, table: pa.Table) -> "BlockReport":
        """The report that was packed in `table`."""
        [text] = table["report"].to_pylist()
        values = json.loads(text)
        return cls(**values | {"gpu": values["gpu"] and GpuUsage(**values["gpu"])})


def reports(chain: Dataset) -> Iterator[BlockReport]:
    """What the actors of a bulk job's chain report, as soon as they do.

    Dataset.iter_rows would do the same with three threads, statistics and 15 ms of CPU a block.
    """
    for bundle in chain.iter_internal_ref_bundles():
        # A range in which nothing is to be done gives a table without a row or a column.
        yield from (BlockReport.unpack(table) for table in ray.get(list(bundle.block_refs)) if table.num_rows)
