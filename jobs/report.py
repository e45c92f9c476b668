"""imagewizard report RUN: a run as one self-contained HTML page."""

import argparse
import sys

from imagewizard import report, training_metrics, training_report
from jobs import exit_codes


def main(argv: list[str]) -> int:
    """Writes the page and prints where it lies."""
    parser = argparse.ArgumentParser(prog="imagewizard report", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="run folder, local or s3://")
    run = parser.parse_args(argv).run
    kind = training_report if training_metrics.is_training_run(run) else report
    print(kind.write_report(run))
    return exit_codes.DONE


if __name__ == "__main__":
    sys.exit(exit_codes.run(main, sys.argv[1:]))
