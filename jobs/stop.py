"""imagewizard stop: asks a submitted job to stop."""

import argparse
import sys
import time

from imagewizard.errors import JobError
from jobs import shell

# The driver has 30 s to commit what is done (submission.STOP_SECONDS); then Ray kills it.
STOP_SECONDS = 60.0
# Ray tells a job to stop when it has a driver, and so has made room for it.
PENDING_SECONDS = 5.0


def main(argv: list[str]) -> int:
    """Asks the job to stop, and waits until it has."""
    parser = argparse.ArgumentParser(
        prog="imagewizard stop",
        description="Ask a submitted job to stop. What it has committed stays; submitted again, it goes on from there.",
    )
    parser.add_argument("id", metavar="ID", help="as `imagewizard jobs` shows it")
    shell.add_address(parser)
    arguments = parser.parse_args(argv)
    # Importing Ray takes seconds, which --help need not wait for.
    from imagewizard.distributed import job_server
    from imagewizard.distributed.submitted_job import SubmittedJob

    job = SubmittedJob(job_server.JobServer(job_server.find_address(arguments.address)), arguments.id)
    job.attach()
    if not job.stop():
        print(f"{job.current_id} has ended already: {job.status()}")
        return shell.DONE
    asked = time.monotonic()
    while (status := job.status()) in ("PENDING", "RUNNING"):
        waited = time.monotonic() - asked
        if status == "PENDING" and waited > PENDING_SECONDS:
            print(f"{job.current_id} has not begun; it stops when the cluster begins it")
            return shell.DONE
        if waited > STOP_SECONDS:
            raise JobError(f"{job.current_id} was asked to stop and has not ended within {STOP_SECONDS:g} s")
        time.sleep(1.0)
    print(f"{job.current_id} {status}")
    return shell.DONE


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
