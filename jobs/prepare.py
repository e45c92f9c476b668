"""imagewizard prepare: a data set into manifests, ready to train on and to measure with."""

import argparse
import sys

from imagewizard import standard_streams
from imagewizard.datasets import bsds500
from imagewizard.images.decoding import quiet
from imagewizard.progress import Printer
from jobs import shell


def main(argv: list[str]) -> int:
    """Prepares a data set, or checks one that is prepared, and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="imagewizard prepare",
        usage="imagewizard prepare bsds500 DEST [--from DIR_OR_ARCHIVE_OR_URL] [--dry-run]",
        description="BSDS500 as manifests of clean images; the 68 images of CBSD68 are set apart as the benchmark.",
    )
    parser.add_argument("dataset", choices=["bsds500"], help="the Berkeley Segmentation Data Set, 500 photographs")
    parser.add_argument("destination", metavar="DEST", help="the folder for the manifests, and for images if unpacked")
    source = "a folder that has train/, val/ and test/, or a .tgz, .tar.gz or .zip of one, or its URL"
    parser.add_argument(
        "--from", dest="source", default=bsds500.URL, metavar="SOURCE", help=f"{source} (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="check, print the plan and stop")
    options = parser.parse_args(argv)
    standard_streams.go_on_unread()
    plan = bsds500.plan(options.source, options.destination)
    print(plan, flush=True)
    if options.dry_run:
        return shell.DONE
    quiet()
    for name, images in bsds500.prepare(plan, Printer()).items():
        print(f"{images:>4} images  {plan.folder / name}.parquet  ({bsds500.MANIFESTS[name]})")
    return shell.DONE


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
