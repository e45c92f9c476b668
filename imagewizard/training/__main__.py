"""`python -m imagewizard.training CONFIG [key=value …]`: trains in this process, without Ray.

It uses the same config, files and checkpoints as `imagewizard train`, and needs only torch, diffusers, numpy, Pillow,
pyarrow, safetensors, pydantic and PyYAML; for a perceptual loss torchvision too. Exit codes: 0 done, 1 a disk or server
failed, 2 wrong input, 4 another process holds the run, 130 stopped by Ctrl-C.
"""

import sys

from imagewizard import config, standard_streams
from imagewizard.config.train import TrainConfig
from imagewizard.errors import RunLockedError, UserError, one_line
from imagewizard.progress import Printer
from imagewizard.tracking import status
from imagewizard.training import job, run
from imagewizard.training.budget import process_started


def main(words: list[str]) -> int:
    """Trains and returns the exit code."""
    standard_streams.prepare()
    standard_streams.go_on_unread()
    if not words or {"-h", "--help"} & set(words):
        print(__doc__)
        return 0 if words else 2
    report = Printer()
    try:
        path, overrides = config.split_words(words)
        plan = job.prepare(config.load(TrainConfig, path, overrides), process_started())
        report(str(plan))
        if plan.summary is None:
            done = run.execute(plan, report)
            report(f"finished after {done['steps']} steps; the model is in {done['model']}")
        else:
            report("this run is already finished; nothing was done")
        further = status.further(plan.config.output, plan.config.network is not None)
        report(f"to train it further: python -m imagewizard.training … {further}")
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a disk or a server
        print(f"error: {type(error).__name__}: {one_line(error)}; the same command resumes", file=sys.stderr)
        return 1
    except RunLockedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        print("stopped; the same command resumes from the last checkpoint", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
