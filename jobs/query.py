"""imagewizard query RUN… "SQL": SQL over the rows of one or more runs."""

import argparse
import sys

from imagewizard.errors import UserError
from imagewizard.query import FORMATS, TABLE_ROWS
from imagewizard.query.canned import CANNED
from jobs import shell

_EPILOG = """\
The tables are `results` (the current row of each image and noise level) and `attempts` (failed earlier tries too),
with the columns of a result row and `run`. A name from --list stands for its query.

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
    if options.list:
        for name, canned in CANNED.items():
            print(f"{name:<10} {canned.description}")
        return shell.DONE
    if len(options.words) < 2:
        raise UserError("no run folder or no query", f"give both; a query is SQL, or one of {', '.join(CANNED)}")
    if options.limit is not None and options.limit < 0:
        raise UserError(f"is {options.limit}", "give 0 or more", "--limit")
    from imagewizard.query import output, sql  # DuckDB and pyarrow take a moment that a wrong word need not wait for

    *runs, query = options.words
    with sql.connect(runs) as connection:
        rows = sql.select(connection, query)
        output.write(rows, options.format or output.format_of(options.out), options.out, options.limit)
    return shell.DONE


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
