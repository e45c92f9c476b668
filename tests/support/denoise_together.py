"""A bulk job whose actors wait: `python -m tests.support.denoise_together ACTORS FOLDER key.path=value …`.

None denoises before so many have loaded the model. FOLDER, which all nodes see, is where they say so. Otherwise it is
as `imagewizard denoise`.
"""

import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

from imagewizard.bulk.block import Block
from imagewizard.config.denoise import ActorConfig, DenoiseConfig
from imagewizard.distributed import cluster, denoise_job, pipeline
from imagewizard.progress import Printer
from jobs import shell

PATIENCE_SECONDS = 120.0


def waiting(actors: int, folder: Path) -> type[pipeline.DenoiseActor]:
    """A DenoiseActor that loads its model, and waits for the others at each block."""

    class WaitingDenoiseActor(pipeline.DenoiseActor):
        def load(self, config: ActorConfig) -> Callable[[Block], Block]:
            denoise = super().load(config)
            (folder / uuid.uuid4().hex).touch()
            return partial(_denoise_together, actors, folder, denoise)

    return WaitingDenoiseActor


def _denoise_together(actors: int, folder: Path, denoise: Callable[[Block], Block], block: Block) -> Block:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(list(folder.iterdir())) < actors:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all of {actors} actors have loaded the model")
        time.sleep(0.1)
    return denoise(block)


def main(argv: list[str]) -> int:
    """Runs the job and returns the exit code."""
    actors, folder, *overrides = argv
    config = DenoiseConfig.load(overrides=overrides)
    actor = waiting(int(actors), Path(folder))
    denoise_job.execute(denoise_job.prepare(config), Printer(), cluster.start_quietly, actor)
    return shell.DONE


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
