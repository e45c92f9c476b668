"""imagewizard status: how far a run is."""

import argparse
import json
import sys
from dataclasses import asdict

from jobs import shell


def main(argv: list[str]) -> int:
    """Prints the status of one or more runs."""
    parser = argparse.ArgumentParser(
        prog="imagewizard status", description="How far a run is: a bulk job's or a training's."
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder, local or s3://")
    parser.add_argument("--json", action="store_true", help="one JSON object a run")
    arguments = parser.parse_args(argv)
    # What takes a moment to import is not needed for --help.
    from imagewizard.runs import job
    from imagewizard.runs import status as bulk_status
    from imagewizard.tracking import status as training_status

    for run in arguments.runs:
        found: bulk_status.Status | training_status.TrainingStatus
        if job.kind(run) == "train":
            found = training_status.read(run)
            text = training_status.text(run, found)
        else:
            found = bulk_status.read(run)
            text = bulk_status.text(run, found)
        print(json.dumps({"run": run} | asdict(found), default=str) if arguments.json else text)
    return shell.DONE


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
