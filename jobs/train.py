"""imagewizard train: train a model."""

import sys
from typing import Any

from imagewizard import config, standard_streams
from imagewizard.config.train import TrainConfig
from imagewizard.progress import Printer
from imagewizard.tracking import history, status
from jobs import shell
from jobs.shell import parse


def main(argv: list[str]) -> int:
    """Trains, or goes on training, and returns the exit code."""
    path, overrides, dry_run = parse(
        argv,
        prog="imagewizard train",
        description="Train a denoiser into the run folder `output`. The same command again resumes.",
        example="imagewizard train configs/embedded.yaml data.train=photos data.validation=more-photos",
    )
    standard_streams.go_on_unread()
    job = config.load(TrainConfig, path, overrides)
    # Importing Ray takes seconds: the config is checked before.
    from imagewizard.distributed import cluster, ray_job, train_job
    from imagewizard.training import rehearsal
    from imagewizard.training.budget import process_started

    with ray_job.naming_the_node():
        plan = train_job.prepare(job, process_started())
    print(plan, flush=True)
    if dry_run:
        if plan.summary is None:
            rehearsal.rehearse(plan, Printer())
        return shell.DONE
    if plan.summary is None:
        _print_summary(job, train_job.execute(plan, Printer(), cluster.start_quietly))
    else:
        _print_summary(job, plan.summary)
        print("this run is already finished; nothing was done")
    return shell.DONE


def _print_summary(job: TrainConfig, summary: dict[str, Any]) -> None:
    for text in summary["broken_examples"]:
        print(f"not used: {text}")
    if more := summary["broken_images"] - len(summary["broken_examples"]):
        print(f"not used: {more} images more")
    for name in ("first", "best"):
        row = summary["validation"][name]
        levels = list(history.by_level(row, "psnr"))
        psnrs = " / ".join(f"{row[f'psnr_{level}']:.2f}" for level in levels)
        ssims = " / ".join(_ssim(row[f"ssim_{level}"]) for level in levels)
        at_levels = f"PSNR {psnrs} dB, SSIM {ssims} {history.at_levels(levels)}"
        scores = at_levels if levels else f"PSNR {row['psnr']:.2f} dB, mean of all levels"
        print(f"{name:<5} step {row['step']}: {scores}")
    print(f"finished after {summary['steps']} steps; the model is in {job.output}/model")
    print(f"to train it further: imagewizard train … {status.further(job.output, job.network is not None)}")


def _ssim(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"  # images smaller than its window have none


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
