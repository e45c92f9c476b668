"""imagewizard denoise: the bulk job."""

import sys
from typing import Any

from imagewizard import config, standard_streams
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.metrics import METRICS
from imagewizard.progress import Printer
from imagewizard.schema import noisy
from jobs import shell
from jobs.shell import parse


def main(argv: list[str]) -> int:
    """Runs the job, or goes on with it, and returns its exit code."""
    path, overrides, dry_run = parse(
        argv,
        prog="imagewizard denoise",
        description="Denoise every image of `input` into the run folder `output`. The same command again resumes.",
        example="imagewizard denoise input=photos output=runs/photos noise.sigma='[15,25,50]'",
    )
    standard_streams.go_on_unread()
    job = config.load(DenoiseConfig, path, overrides)
    # Importing Ray takes seconds: the config is checked before.
    from imagewizard.distributed import cluster, denoise_job, ray_job

    with ray_job.naming_the_node():
        plan = denoise_job.prepare(job)
    print(plan, flush=True)
    if dry_run:
        return shell.DONE
    summary = denoise_job.execute(plan, Printer(), cluster.start_quietly)
    _print_summary(plan.config, summary)
    total = summary["ok"] + summary["failed"]
    return shell.TOO_MANY_FAILED if summary["failed"] > plan.config.max_failed_fraction * total else shell.DONE


def _print_summary(job: DenoiseConfig, summary: dict[str, Any]) -> None:
    from imagewizard.manifest import left_out
    from imagewizard.noise import synthetic

    kind = None if job.noise is None else job.noise.kind
    names = synthetic.names([(kind, score["noise_params"], score["sigma"]) for score in summary["scores"]])
    for setting, score in zip(names, summary["scores"], strict=True):
        changes = [metric.change(score[noisy(name)], score[name]) for name, metric in METRICS.items()]
        if any(changes):
            print(f"{setting}: {', '.join(filter(None, changes))}, mean of {score['ok']} images")
    for error in summary["top_errors"]:
        print(f"{error['images']} failed at {error['stage']}: {error['error']} (e.g. {error['example']})")
    if summary["failed"]:
        print("once mended, retry_failed=true tries these again, and only these")
    for line in left_out.lines(summary["left_out"], summary["skipped_files"]):
        print(line)
    print(f"{summary['ok']} ok, {summary['failed']} failed; rows in {job.output}/results")
    if job.images:
        print(f"images in {job.output}/images")


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
