"""imagewizard report RUN: a run as one self-contained HTML page."""

import argparse
import sys

from imagewizard import standard_streams
from jobs import shell


def main(argv: list[str]) -> int:
    """Writes the page and prints where it lies."""
    parser = argparse.ArgumentParser(prog="imagewizard report", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="run folder, local or s3://")
    run = parser.parse_args(argv).run
    standard_streams.go_on_unread()
    # What takes a moment to import is not needed for --help.
    from imagewizard.images.decoding import quiet
    from imagewizard.report import run as run_report
    from imagewizard.report import training as training_report
    from imagewizard.runs import job

    quiet()
    kind = training_report if job.kind(run) == "train" else run_report
    print(kind.write_report(run))
    return shell.DONE


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
