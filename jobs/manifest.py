"""imagewizard manifest: lists a folder or prefix once, for any number of runs."""

import argparse
import sys
from typing import TYPE_CHECKING

from imagewizard import standard_streams
from imagewizard.progress import Printer
from jobs import shell

if TYPE_CHECKING:
    from imagewizard.manifest.index import ManifestIndex
    from imagewizard.manifest.standalone import Outcome

_EPILOG = """\
SRC is a folder or s3:// prefix, listed recursively, a tar shard, a Parquet file or a CSV manifest. M, local or s3://,
is a folder of Parquet files (image_id, uri, bytes, and member, offset or row of packed images) and index.json; it is an
`input`.
A glob is matched against the whole image id, part by part between the slashes: * ? and [abc] stay within a part, and
** as a part stands for any number of parts, none too: 'train/*/*.jpg', '**/left_*.png', 'val/**'.

  imagewizard manifest s3://bucket/photos --out s3://bucket/manifests/photos --suffix .jpg .jpeg
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="imagewizard manifest",
        usage="imagewizard manifest SRC --out M [--suffix .png …] [--min-bytes N] [--max-bytes N]\n"
        "                            [--glob 'train/*/*.jpg'] [--limit N] [--refresh] [--dry-run]",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SRC", help="what to list")
    parser.add_argument("--out", required=True, metavar="M", help="the folder for the manifest")
    parser.add_argument("--suffix", nargs="+", default=[], metavar=".png", help="only ids that end so, in any case")
    parser.add_argument("--min-bytes", type=int, metavar="N", help="leave out what is known to be smaller")
    parser.add_argument("--max-bytes", type=int, metavar="N", help="leave out what is known to be larger")
    parser.add_argument("--glob", metavar="GLOB", help="only ids that fit (see below)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N that fit, for a trial")
    parser.add_argument("--refresh", action="store_true", help="list again, in place of the manifest that is there")
    parser.add_argument("--dry-run", action="store_true", help="check, print the plan and stop")
    return parser


def main(argv: list[str]) -> int:
    """Lists SRC, or reports that it is listed already; returns the exit code."""
    options = _parser().parse_args(argv)
    standard_streams.go_on_unread()
    # What takes a moment to import is not needed for --help.
    from imagewizard.manifest import standalone
    from imagewizard.manifest.filters import Filters

    filters = Filters(tuple(options.suffix), options.min_bytes, options.max_bytes, options.glob, options.limit)
    plan = standalone.plan(options.source, options.out, filters)
    print(plan, flush=True)
    if plan.before is not None and not options.refresh:
        print(f"{_counts(plan.before)}, listed at {plan.before.listed_at}; --refresh lists again")
    elif not options.dry_run:
        _print_outcome(plan.folder, standalone.write(plan, Printer()))
    return shell.DONE


def _print_outcome(folder: str, outcome: "Outcome") -> None:
    from imagewizard.manifest import left_out

    index = outcome.index
    for line in left_out.lines(index.left_out, index.skipped):
        print(line)
    if index.filtered:
        print(f"{index.filtered:,} images were left out by the filters")
    if outcome.changes is not None:
        new, gone, resized = outcome.changes
        print(f"since the last listing {new:,} images are new, {gone:,} are gone, {resized:,} have changed in size")
    print(f"{_counts(index)}; {outcome.seconds:.1f} s, {outcome.rate:,.0f} files/s; in {folder}")


def _counts(index: "ManifestIndex") -> str:
    return f"{index.images:,} images, {index.bytes:,} bytes, {len(index.blocks)} shards"


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
