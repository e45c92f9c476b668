"""A bulk job whose model sleeps 0.1 s over an image: `python -m tests.support.slow_denoise key.path=value …`.

Otherwise it is as `imagewizard denoise`.
"""

import sys

from imagewizard.benchmarks.nodes import sleeping
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.distributed import cluster, denoise_job
from imagewizard.progress import Printer
from jobs import shell

SECONDS_PER_IMAGE = 0.1


def main(argv: list[str]) -> int:
    """Runs the job and returns the exit code."""
    config = DenoiseConfig.load(overrides=argv)
    denoise_job.execute(denoise_job.prepare(config), Printer(), cluster.start_quietly, sleeping(SECONDS_PER_IMAGE))
    return shell.DONE


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
