"""imagewizard submit: sends a training or a denoise job to a Ray cluster."""

import argparse
import sys
from pathlib import Path

from imagewizard import standard_streams
from imagewizard.errors import UserError
from imagewizard.progress import Printer
from jobs import shell


def main(argv: list[str]) -> int:
    """Sends the job, follows its log, and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="imagewizard submit",
        usage="imagewizard submit COMMAND [CONFIG] [key.path=value …] [--address URL] [--detach] "
        "[--submission-id ID] [--retries N] [--dry-run]",
        description="Send a training or a denoise job to a Ray cluster, follow its log, and end with its exit code. "
        "Ctrl-C leaves the job running.",
        epilog="example: imagewizard submit denoise my.yaml input=s3://photos output=s3://runs/photos "
        "--address http://127.0.0.1:8265",
    )
    parser.add_argument("command", metavar="COMMAND", help="denoise or train")
    parser.add_argument("words", nargs="*", metavar="CONFIG key=value", help="a YAML file, and values on top of it")
    shell.add_address(parser)
    parser.add_argument("--detach", action="store_true", help="return as soon as the cluster has the job")
    parser.add_argument(
        "--submission-id", metavar="ID", help="the job's name on the cluster; the same id again attaches to the job"
    )
    parser.add_argument(
        "--retries", type=int, default=0, metavar="N", help="send it again, up to N times, if the cluster fails (0)"
    )
    parser.add_argument("--dry-run", action="store_true", help="check, print what would be sent, and stop")
    arguments = parser.parse_intermixed_args(argv)
    standard_streams.go_on_unread()
    if arguments.retries < 0:
        raise UserError(f"{arguments.retries} is no number of retries", "give 0 or more", "--retries")
    if arguments.retries and arguments.detach:
        raise UserError("whoever submits a job retries it, so it has to stay", "leave out --detach", "--retries")
    # Importing Ray takes seconds: what is wrong in the words is told before.
    from imagewizard import config
    from imagewizard.distributed import job_server, submission

    submitted = submission.prepare(arguments.command, *config.split_words(arguments.words), Path.cwd())
    given = arguments.submission_id  # an empty one is a mistake, perhaps of a script
    submission_id = submission.new_id(arguments.command) if given is None else given
    submission.check_id(submission_id)
    address = job_server.find_address(arguments.address)
    print(f"cluster  {address}\n{submitted}", flush=True)
    if arguments.dry_run:
        return shell.DONE
    from imagewizard.distributed.submitted_job import SubmittedJob

    report = Printer()
    job = SubmittedJob(job_server.JobServer(address, report), submission_id, submitted, arguments.retries)
    with shell.following(job, arguments.address):
        new = job.start()
        report(f"job      {job.current_id}{'' if new else ' (attached)'}")
        if not arguments.detach:
            return job.wait(report)
        print(shell.job_hints(job.id, arguments.address), flush=True)
        return shell.DONE


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
