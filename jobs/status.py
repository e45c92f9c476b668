"""imagewizard status: how far a run is."""

import argparse
import json
import sys
from dataclasses import asdict

from imagewizard.progress import clock
from imagewizard.runs import job, status
from imagewizard.tracking import status as training_status
from jobs import shell


def main(argv: list[str]) -> int:
    """Prints the status of one or more runs."""
    parser = argparse.ArgumentParser(
        prog="imagewizard status", description="How far a run is: a bulk job's or a training's."
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder, local or s3://")
    parser.add_argument("--json", action="store_true", help="one JSON object a run")
    arguments = parser.parse_args(argv)
    for run in arguments.runs:
        found: status.Status | training_status.TrainingStatus
        if job.kind(run) == "train":
            found = training_status.read(run)
            text = training_status.text(run, found)
        else:
            found = status.read(run)
            text = _text(run, found)
        print(json.dumps({"run": run} | asdict(found), default=str) if arguments.json else text)
    return shell.DONE


def _text(run: str, found: status.Status) -> str:
    total = found.ok + found.failed + found.pending
    share = 100.0 * (total - found.pending) / total if total else 0.0
    lines = [
        f"{run}: {found.state}" + (f" ({found.driver})" if found.driver else ""),
        f"  {found.images} images, {total} rows: {found.ok} ok, {found.failed} failed, {found.pending} pending "
        f"({share:.1f} % done)",
    ]
    if found.rows_per_second:
        eta = f", ETA {clock(found.eta_seconds)}" if found.eta_seconds else ""
        lines.append(f"  {found.rows_per_second:.1f} rows/s{eta}; last row {found.last_row:%Y-%m-%d %H:%M:%S} UTC")
    if found.state == "stopped":
        lines.append("  the same `imagewizard denoise` command again goes on from here")
    elif found.failed and found.state == "finished":
        lines.append(f"  imagewizard query {run} errors tells why; retry_failed=true tries them again")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
