"""cluster/Dockerfile and .dockerignore. Docker is not needed: what it would run is read, not built."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from imagewizard.distributed import submission

ROOT = Path(__file__).resolve().parents[2]
TEXT = re.sub(r"\\\n\s*", "", (ROOT / "cluster" / "Dockerfile").read_text())
LINES = [line.split(" ", 1) for line in TEXT.splitlines() if line and not line.startswith("#")]


def values(word: str) -> list[str]:
    """What follows an instruction, wherever it stands."""
    return [rest for instruction, rest in LINES if instruction == word]


def copied() -> list[str]:
    return [source for rest in values("COPY") for source in rest.split()[:-1]]


def test_everything_that_is_copied_is_in_the_repository_and_gets_past_dockerignore() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == set(copied())
    for source in copied():
        tracked = subprocess.run(["git", "ls-files", source], cwd=ROOT, capture_output=True, text=True, check=True)
        assert tracked.stdout, source


def test_the_package_can_be_built_from_what_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    assert wanted | set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= set(copied())
    assert (ROOT / "imagewizard/config/examples").resolve() == ROOT / "configs"


@pytest.mark.parametrize("command", values("RUN"))
def test_the_shell_can_read_every_step(command: str) -> None:
    subprocess.run(["sh", "-n", "-c", command], check=True)


def test_packages_are_those_of_the_lock_file_by_hash_and_no_development_tools() -> None:
    dependencies, package = [command for command in values("RUN") if command.startswith("uv pip install")]
    assert "--require-hashes -r pyproject.toml -c requirements.lock" in dependencies and "--group" not in TEXT
    assert "--no-deps" in package and "--require-build-hashes" in package
    for command in (dependencies, package):
        assert "--compile-bytecode" in command and "--system" in command
    (version,) = re.findall(r"^UV_VERSION := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"uv=={version}" in TEXT


def test_dependencies_are_a_layer_below_the_code() -> None:
    order = [rest for instruction, rest in LINES if instruction in {"COPY", "RUN"}]
    install = next(index for index, rest in enumerate(order) if "--require-hashes" in rest)
    assert order.index("imagewizard imagewizard") > install > order.index("pyproject.toml requirements.lock ./")


def test_nodes_run_as_a_user_with_a_home_and_start_no_ray_without_a_token() -> None:
    assert values("USER") == ["1000:1000"] and any("useradd --create-home --uid 1000" in each for each in values("RUN"))
    assert values("ENV")[:2] == ["HOME=/home/ray", "RAY_AUTH_MODE=token"]
    assert f"RAY_JOB_STOP_WAIT_TIME_S={submission.STOP_SECONDS}" in values("ENV")
    assert "PYTHONDONTWRITEBYTECODE" not in TEXT


def test_it_has_what_the_launcher_and_kuberay_call() -> None:
    packages = next(command for command in values("RUN") if "apt-get install" in command)
    assert {"openssh-client", "procps", "rsync", "wget"} <= set(packages.split())


def test_its_python_is_one_that_the_package_allows() -> None:
    (version,) = [rest.partition("=")[2] for rest in values("ARG") if rest.startswith("PYTHON=")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]
