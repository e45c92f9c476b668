"""imagewizard query RUN… "SQL": SQL over the rows of one or more runs."""

import argparse
import sys

from imagewizard.errors import UserError
from imagewizard.query import output as query_output
from imagewizard.query import sql as query_sql
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
    parser.add_argument("--format", choices=query_output.FORMATS, help="default: what FILE ends in, else table")
    parser.add_argument("--out", metavar="FILE", help="write there (local or s3://) instead of to stdout")
    rows = f"at most N rows (default: {query_output.TABLE_ROWS} for a table, else all)"
    parser.add_argument("--limit", type=int, metavar="N", help=rows)
    return parser


def main(argv: list[str]) -> int:
    """Runs one query over the runs and writes its rows."""
    options = _parser().parse_args(argv)
    if options.list:
        for name, canned in query_sql.CANNED.items():
            print(f"{name:<10} {canned.description}")
        return shell.DONE
    if len(options.words) < 2:
        raise UserError(f"give a run folder and a query: SQL, or one of {', '.join(query_sql.CANNED)}")
    if options.limit is not None and options.limit < 0:
        raise UserError(f"--limit: must be 0 or more (got {options.limit})")
    *runs, sql = options.words
    rows = query_sql.select(query_sql.connect(runs), sql)
    query_output.write(rows, options.format or query_output.format_of(options.out), options.out, options.limit)
    return shell.DONE


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
