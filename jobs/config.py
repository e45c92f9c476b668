"""imagewizard config NAME: a commented config to start from."""

import argparse
import sys
from importlib import resources

from jobs import shell

_EPILOG = """\
  imagewizard config denoise > my.yaml
  imagewizard denoise my.yaml input=photos output=runs/photos
"""


def examples() -> dict[str, str]:
    """The text of each config that ships with the package, by its name."""
    # A link to configs/ in a checkout, a copy of it in a wheel.
    folder = resources.files("imagewizard.config") / "examples"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in files}


def main(argv: list[str]) -> int:
    """Prints the config and returns the exit code."""
    found = examples()
    parser = argparse.ArgumentParser(
        prog="imagewizard config",
        description="Print a commented config. `denoise` and `train` hold every key with its default.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=list(found), help=", ".join(found))
    print(found[parser.parse_args(argv).name], end="")
    return shell.DONE


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
