"""The console script: `imagewizard COMMAND …` is the same function as `python -m jobs.COMMAND …`."""

import importlib
import sys
from collections.abc import Callable

from imagewizard import __version__
from imagewizard.errors import UserError
from jobs import shell

COMMANDS = {
    "demo": "the bulk job on photographs that come with scikit-image, and a page to look at",
    "manifest": "list a folder or s3:// prefix once, into a manifest that runs can take as input",
    "denoise": "denoise a folder, list or manifest of images into a run folder; again to resume",
    "status": "what of a run is done, failed and pending; how far a training is",
    "query": "SQL over the rows of one or more runs",
    "report": "a run as one self-contained HTML page",
    "evaluate": "restore noisy images and score them against their clean partners",
    "prepare": "BSDS500 into manifests, the CBSD68 benchmark set apart",
    "train": "train a model on Ray Train into a run folder; again to resume",
    "submit": "send a training or a denoise job to a Ray cluster, and follow it",
    "jobs": "the jobs that were submitted to a cluster",
    "logs": "what a submitted job prints",
    "stop": "ask a submitted job to stop",
    "config": "print a commented config to start from",
    "bench": "throughput of the pipeline against the bare model and a plain loop",
}


def _usage() -> str:
    lines = [f"  {name:<9} {text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: imagewizard COMMAND …   (imagewizard COMMAND --help tells more)", "", *lines])


def main() -> int:
    """Hands the words after COMMAND to `jobs.COMMAND.main` and returns its exit code."""
    return shell.run(_main, sys.argv[1:])


def _main(words: list[str]) -> int:
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_usage())
        return shell.DONE if words else shell.WRONG_INPUT
    if words[0] == "--version":
        print(f"imagewizard {__version__}")
        return shell.DONE
    if words[0] not in COMMANDS:
        raise UserError(f"{words[0]!r} is no command", f"one of {', '.join(COMMANDS)}")
    command: Callable[[list[str]], int] = importlib.import_module(f"jobs.{words[0]}").main
    return command(words[1:])


if __name__ == "__main__":
    sys.exit(main())
