"""imagewizard train: train a model."""

import argparse
import sys

from imagewizard import config
from imagewizard.train_config import TrainConfig
from jobs import exit_codes


def main(argv: list[str]) -> int:
    """Trains, or goes on training, and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="imagewizard train",
        usage="imagewizard train CONFIG [key.path=value …] [--dry-run]",
        description="Train a denoiser into the run folder `output`. The same command again resumes.",
    )
    parser.add_argument("words", nargs="*", metavar="CONFIG key=value", help="a YAML file, and values on top of it")
    parser.add_argument("--dry-run", action="store_true", help="check, print the plan and stop")
    arguments = parser.parse_args(argv)
    path, overrides = config.split_words(arguments.words)
    job = config.load(TrainConfig, path, overrides)
    optimizer = job.optimizer
    print(
        f"train    {job.data.train}\n"
        f"validate {job.data.validation}\n"
        f"output   {job.output}\n"
        f"sigma    {job.sigma[0]:g} to {job.sigma[1]:g}, uniform\n"
        f"steps    {optimizer.steps} of {optimizer.batch_size} crops of {job.data.crop} x {job.data.crop}",
        flush=True,
    )
    if arguments.dry_run:
        return exit_codes.DONE
    from imagewizard import trainer  # torch takes seconds that a wrong config need not wait for

    summary = trainer.train(job)
    scores = ", ".join(f"{name} {value:.2f}" for name, value in summary["validation"].items())
    print(f"finished at step {summary['steps']}: {scores}; the model lies in {job.output}/model")
    return exit_codes.DONE


if __name__ == "__main__":
    sys.exit(exit_codes.run(main, sys.argv[1:]))
