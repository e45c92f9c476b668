"""summary.json: what a finished run has come to, counted from its result rows."""

import json
from typing import Any

from imagewizard.manifest.shards import ManifestIndex
from imagewizard.progress import Progress
from imagewizard.runs import totals
from imagewizard.storage import Folder

TOP_ERRORS = 20


def write(run: str, index: ManifestIndex, levels: int, progress: Progress) -> dict[str, Any]:
    """Writes summary.json, the last file of a run, and returns it.

    Raises RuntimeError unless every image has one current row for each level.
    """
    files, shards = totals.snapshot(run)
    found = totals.merge(shards.values())
    expected = index.images * levels
    if found.rows != expected:
        raise RuntimeError(f"{run}: {found.rows} current rows for {expected} images and levels")
    summary = {
        "images": index.images,
        "skipped_files": index.skipped,
        "left_out": index.left_out,
        "levels": levels,
        "ok": found.ok,
        "failed": found.failed,
        "session": {
            "rows": progress.rows,
            "seconds": round(progress.seconds, 1),
            "rows_per_second": round(progress.rate, 3),
            "steady_rows_per_second": progress.steady_rate,
            "gpus": progress.gpus.summary(),
        },
        "stage_seconds": {stage: round(seconds, 3) for stage, seconds in found.stage_seconds.items()},
        "stage_cpu_seconds": {stage: round(seconds, 3) for stage, seconds in found.stage_cpu_seconds.items()},
        "scores": found.means,
        "top_errors": found.errors[:TOP_ERRORS],
        "result_files": files.names,
    }
    data = json.dumps(summary, indent=2).encode()
    Folder(run).write("summary.json", data)
    return summary


def read(run: str) -> dict[str, Any] | None:
    """What summary.json holds; None while the run is unfinished."""
    data = Folder(run).read_if_there("summary.json")
    return None if data is None else dict(json.loads(data))
