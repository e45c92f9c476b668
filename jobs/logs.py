"""imagewizard logs: what a submitted job prints."""

import argparse
import sys

from imagewizard.progress import Printer
from jobs import shell


def main(argv: list[str]) -> int:
    """Prints the log of a job; with --follow to its end, and returns its exit code."""
    parser = argparse.ArgumentParser(prog="imagewizard logs", description="What a submitted job has printed.")
    parser.add_argument("id", metavar="ID", help="as `imagewizard jobs` shows it")
    shell.add_address(parser)
    parser.add_argument(
        "-f", "--follow", action="store_true", help="to the job's end, and end with its exit code; Ctrl-C leaves it"
    )
    arguments = parser.parse_args(argv)
    # Importing Ray takes seconds, which --help need not wait for.
    from imagewizard.distributed import job_server
    from imagewizard.distributed.submitted_job import SubmittedJob

    job = SubmittedJob(job_server.JobServer(job_server.find_address(arguments.address)), arguments.id)
    job.attach()
    if arguments.follow:
        with shell.following(job, arguments.address):
            return job.wait(Printer())
    print(job.logs(), end="")
    return shell.DONE


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
