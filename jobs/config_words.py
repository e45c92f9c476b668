"""The words that follow every command with a config: `[CONFIG] [key.path=value …] [--dry-run]`."""

import argparse

from imagewizard import config


def parse(argv: list[str], *, prog: str, description: str, example: str) -> tuple[str | None, list[str], bool]:
    """(config file or None, key=value words, whether to stop at the plan). Raises UserError if there are two files."""
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [CONFIG] [key.path=value …] [--dry-run]",
        description=description,
        epilog=f"example: {example}",
    )
    parser.add_argument("words", nargs="*", metavar="CONFIG key=value", help="a YAML file, and values on top of it")
    parser.add_argument("--dry-run", action="store_true", help="check, print the plan and stop")
    arguments = parser.parse_intermixed_args(argv)  # or nothing could follow --dry-run
    return *config.split_words(arguments.words), arguments.dry_run
