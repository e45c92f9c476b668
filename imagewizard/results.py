"""The result rows of a run: names of the files that hold them, and all rows as one pyarrow dataset, local or s3://."""

import re
from dataclasses import dataclass

import pyarrow.dataset as ds

from imagewizard import storage
from imagewizard.errors import UserError
from imagewizard.schema import RESULT_SCHEMA

_NAME = re.compile(r"s([0-9]{5,})-b([0-9]{6,})-a([0-9]{2,})\.parquet")


@dataclass(frozen=True)
class BlockFile:
    """Which block of which manifest shard a result file holds; every row of it has this attempt or an earlier one."""

    shard: int
    block: int
    attempt: int

    @property
    def name(self) -> str:
        return f"s{self.shard:05d}-b{self.block:06d}-a{self.attempt:02d}.parquet"

    @classmethod
    def parse(cls, name: str) -> "BlockFile | None":
        """The block that a file name stands for; None for a name that no block has."""
        match = _NAME.fullmatch(name)
        if not match:
            return None
        block = cls(*map(int, match.groups()))
        return block if block.name == name else None  # one name a block: s000001 is not shard 1


def result_files(run: str) -> list[str]:
    """Names, sorted, of the committed result files of a run; whatever else lies in the folder is left out.

    Raises UserError if `run` is no run folder (has neither job.yaml nor result files) or cannot be listed.
    """
    try:
        names = [name for name in storage.list_files(storage.join(run, "results")) if BlockFile.parse(name)]
        is_run = bool(names) or storage.exists(storage.join(run, "job.yaml"))
    except OSError as error:
        raise UserError(f"{run}: cannot be listed: {' '.join(str(error).split())}") from None
    if not is_run:
        raise UserError(f"{run}: no run folder (no job.yaml, no results in it); give the `output` of a denoise job")
    return names


def dataset(run: str, names: list[str]) -> ds.Dataset:
    """The rows of these result files of a run, by RESULT_SCHEMA; nothing is read before it is scanned."""
    if not names:
        return ds.dataset(RESULT_SCHEMA.empty_table())
    filesystem, folder = storage.resolve(storage.join(run, "results"))
    paths = [f"{folder}/{name}" for name in names]
    return ds.dataset(paths, schema=RESULT_SCHEMA, format="parquet", filesystem=filesystem)
