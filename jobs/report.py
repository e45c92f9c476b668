"""imagewizard report RUN: a run as one self-contained HTML page."""

import argparse
import sys

from imagewizard import report
from jobs import exit_codes


def main(argv: list[str]) -> int:
    """Writes the page and prints where it lies."""
    parser = argparse.ArgumentParser(prog="imagewizard report", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="run folder, local or s3://")
    print(report.write_report(parser.parse_args(argv).run))
    return exit_codes.DONE


if __name__ == "__main__":
    sys.exit(exit_codes.run(main, sys.argv[1:]))
