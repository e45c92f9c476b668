"""A manifest in a folder of its own, listed once for many runs: `imagewizard manifest`.

Its index names its shards, and is replaced in one write: a reader sees the old listing or the new one, whole.
"""

import re
from contextlib import closing
from dataclasses import dataclass

from imagewizard import storage
from imagewizard.errors import UserError
from imagewizard.manifest import index as manifest_index
from imagewizard.manifest import listing, queries, shards
from imagewizard.manifest.filters import Filters
from imagewizard.manifest.index import ManifestIndex
from imagewizard.manifest.queries import Changes
from imagewizard.manifest.tally import ListingProgress, Tally
from imagewizard.progress import Reporter, silent
from imagewizard.storage import Folder
from imagewizard.storage.folder import SCRATCH
from imagewizard.storage.lease import LOCK, Lease

# Names that only this module gives. Nothing else in the folder is ever deleted.
_SHARD = re.compile(r"s[0-9]{5,}(-g[1-9][0-9]*)?\.parquet")


@dataclass(frozen=True)
class ListingPlan:
    """A listing that can start: all cheap checks are done."""

    source: str
    """Absolute."""
    folder: str
    filters: Filters
    before: ManifestIndex | None
    """The manifest that the folder holds."""

    def __str__(self) -> str:
        return f"from     {self.source}\ninto     {self.folder}\nfilters  {self.filters}"


@dataclass(frozen=True)
class Outcome:
    """The result of a listing."""

    index: ManifestIndex
    seconds: float
    rate: float
    """Files and members per second, images or not."""
    changes: Changes | None = None
    """Since the manifest that was there before; None without one."""


def plan(source: str, folder: str, filters: Filters) -> ListingPlan:
    """Checks all that can be checked without writing. Raises UserError."""
    source, folder = storage.absolute(source), storage.absolute(folder)
    if f"{folder}/".startswith(f"{source}/"):
        raise UserError(f"{folder} lies in {source}, and would be listed with it", "give a folder elsewhere", "--out")
    try:
        Folder(folder).check_usable(lambda name: _is_ours(name) or manifest_index.read(folder) is not None)
    except UserError as error:
        raise error.at("--out") from None
    before = manifest_index.read(folder)
    if before is not None and (before.source != source or before.filters != filters.as_json()):
        was = f"{before.source}, filters {before.filters or 'none'}"
        raise UserError(f"{folder} was listed otherwise ({was})", "give another folder, or the same source", "--out")
    return ListingPlan(source, folder, filters, before)


def _is_ours(name: str) -> bool:
    return bool(_SHARD.fullmatch(name)) or name in (LOCK, f"{SCRATCH}/")


def write(plan: ListingPlan, report: Reporter = silent) -> Outcome:
    """Lists the source into the folder, and replaces the manifest there.

    An interrupted listing leaves the index that was there, or none. Raises UserError if the source holds no image or
    cannot be listed, RunLockedError if another process is at it.
    """
    shards.check_source(plan.source)
    with Lease(plan.folder, report):
        Folder(plan.folder).sweep()
        before = manifest_index.read(plan.folder)
        outcome = _list(plan, before, report)
        _sweep(plan.folder, outcome.index)
    return outcome


def _list(plan: ListingPlan, before: ManifestIndex | None, report: Reporter) -> Outcome:
    tally, listed_at = Tally(), shards.now()
    writer = shards.ShardWriter(Folder(plan.folder), generation=before.generation + 1 if before else 0)
    found = listing.batches(plan.source, tally, in_order=plan.filters.limit is not None)
    with ListingProgress(tally, report) as progress, closing(found) as tables:
        for table in plan.filters.keep(tables, tally):
            writer.add(table)
        index = writer.finish(tally, source=plan.source, filters=plan.filters.as_json(), listed_at=listed_at)
        seconds, rate = progress.seconds, progress.rate
    changes = None
    if before is not None:
        old, new = (queries.dataset(plan.folder, each.shards) for each in (before, index))
        changes = queries.changes(old, new)
    return Outcome(index, seconds, rate, changes)


def _sweep(folder: str, index: ManifestIndex | None) -> None:
    """Deletes the shards that the index does not name: of an interrupted listing, or of the one before."""
    named = set(index.shards if index else ())
    stray = [name for name in Folder(folder).list("", ".parquet") if _SHARD.fullmatch(name) and name not in named]
    Folder(folder).delete(stray)
