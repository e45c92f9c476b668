"""Folders to list, and what listings leave out of them."""

from pathlib import Path

from imagewizard.manifest.tally import Tally


def examples(tally: Tally) -> dict[str, list[str]]:
    """{reason: names of files that were left out for it}."""
    return {reason: sorted(each.examples) for reason, each in tally.left_out.items()}


def touch(folder: Path, *names: str) -> None:
    """Makes files of as many bytes as their names have characters."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
