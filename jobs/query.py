"""imagewizard query RUN… "SQL": SQL over the rows of one or more runs."""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

from imagewizard.errors import UserError, one_line
from imagewizard.query import FORMATS, TABLE_ROWS
from jobs import shell

_EPILOG = """\
The tables are `results` (the current row of each image and setting of the noise) and `attempts` (failed earlier tries
too), with the columns of a result row and `run`. A name from --list stands for its query.

  imagewizard query runs/demo summary
  imagewizard query runs/demo "SELECT sigma, avg(psnr) FROM results GROUP BY sigma"
  imagewizard query runs/a runs/b "SELECT * FROM results WHERE status = 'error'" --out errors.csv
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="imagewizard query",
        usage='imagewizard query RUN [RUN …] "SQL or name" [--format FORMAT] [--out FILE] [--limit N]\n'
        "       imagewizard query --list",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="RUN … SQL", help="run folders (local or s3://), then the query")
    parser.add_argument("--list", action="store_true", help="list the queries that have a name")
    parser.add_argument("--format", choices=FORMATS, help="default: what FILE ends in, else table")
    parser.add_argument("--out", metavar="FILE", help="write there (local or s3://) instead of to stdout")
    rows = f"at most N rows (default: {TABLE_ROWS} for a table, else all)"
    parser.add_argument("--limit", type=int, metavar="N", help=rows)
    return parser


def main(argv: list[str]) -> int:
    """Runs one query over the runs and writes its rows."""
    options = _parser().parse_args(argv)
    # What takes a moment to import is not needed for --help.
    from imagewizard.query.canned import CANNED

    if options.list:
        for name, canned in CANNED.items():
            print(f"{name:<10} {canned.description}")
        return shell.DONE
    if len(options.words) < 2:
        what = "no query" if options.words else "no run folder and no query"
        raise UserError(what, f"give run folders, then a query: SQL, or one of {', '.join(CANNED)}")
    if options.limit is not None and options.limit < 0:
        raise UserError(f"is {options.limit}", "give 0 or more", "--limit")
    from imagewizard.query import output, sql

    form = options.format or output.format_of(options.out)
    if form == "parquet" and options.out is None:
        raise UserError("parquet is not for the terminal", "name a file with --out FILE", "--format")
    screen = shutil.get_terminal_size().columns if options.out is None and sys.stdout.isatty() else None
    *runs, query = options.words
    with sql.connect(runs) as connection:
        rows = sql.select(connection, query)
        with _sink(options.out) as sink:
            output.write(rows, form, sink, options.limit, screen)
    return shell.DONE


@contextmanager
def _sink(out: str | None) -> Iterator[IO[bytes]]:
    """stdout, or the file, which is there as a whole or not at all."""
    if out is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from imagewizard import storage

    with ExitStack() as stack:
        try:
            stream = stack.enter_context(storage.of(out).writer(out))
        except (OSError, UserError) as error:
            raise UserError(f"cannot be written: {one_line(error)}", "give another file", f"--out {out}") from None
        yield stream


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
