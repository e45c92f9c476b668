"""imagewizard jobs: the jobs that were submitted to a cluster."""

import argparse
import json
import sys
import time
from datetime import datetime

from imagewizard.errors import one_line
from jobs import shell

_COLUMNS = ("id", "status", "code", "began", "took", "runs")


def main(argv: list[str]) -> int:
    """Prints the jobs, the oldest first."""
    parser = argparse.ArgumentParser(prog="imagewizard jobs", description="The jobs that were submitted to a cluster.")
    shell.add_address(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a job")
    arguments = parser.parse_args(argv)
    # Importing Ray takes seconds, which --help need not wait for.
    from imagewizard.distributed import job_server, ray_job
    from imagewizard.distributed.submitted_job import exit_code
    from imagewizard.progress import clock

    found = job_server.JobServer(job_server.find_address(arguments.address)).jobs()
    rows: list[tuple[str, ...]] = []
    for job in found:
        began, ended = (job.start_time or 0) / 1000, (job.end_time or 0) / 1000
        code = exit_code(job) if job.status.is_terminal() else None
        if arguments.json:
            metadata = job.metadata or {}
            print(
                json.dumps(
                    {
                        "id": job.submission_id,
                        "status": str(job.status),
                        "exit_code": code,
                        "began": began,
                        "ended": ended or None,
                        "entrypoint": job.entrypoint,
                        "output": metadata.get(ray_job.OUTPUT),
                    }
                )
            )
        else:
            took = clock((ended or time.time()) - began)
            shown = "" if code is None else str(code)
            when = f"{datetime.fromtimestamp(began):%Y-%m-%d %H:%M:%S}"
            rows.append((job.submission_id or "", str(job.status), shown, when, took, job.entrypoint))
    if not found and not arguments.json:
        print("no jobs")
    elif rows:
        _print_table(rows)
    return shell.DONE


def _print_table(rows: list[tuple[str, ...]]) -> None:
    # Anyone's job may run anything, a script of several lines for example.
    lines = [_COLUMNS, *(tuple(map(one_line, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for row in lines:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
