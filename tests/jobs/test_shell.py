"""The words after a command, and the exit code that it ends with."""

import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TextIO

import pytest

from imagewizard.distributed import denoise_job
from imagewizard.errors import JobError, RunLockedError, UserError
from imagewizard.manifest import standalone
from jobs import demo, denoise, manifest, shell
from tests.support.sample_files import write_photos


def parse(*words: str) -> tuple[str | None, list[str], bool]:
    return shell.parse(list(words), prog="imagewizard train", description="Trains.", example="train a.yaml")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (None, [], False)),
        (["a.yaml"], ("a.yaml", [], False)),
        (["seed=1", "a.yaml", "data.train=x"], ("a.yaml", ["seed=1", "data.train=x"], False)),
        (["--dry-run", "a.yaml"], ("a.yaml", [], True)),
        (["a.yaml", "--dry-run", "seed=1"], ("a.yaml", ["seed=1"], True)),
        (["noise.sigma=[15, 25]", "output=a=b"], (None, ["noise.sigma=[15, 25]", "output=a=b"], False)),
    ],
)
def test_words(words: list[str], expected: tuple[str | None, list[str], bool]) -> None:
    assert parse(*words) == expected


def test_two_files_are_refused() -> None:
    with pytest.raises(UserError, match=r"^'b\.yaml' is a second config and no key=value; give one config file$"):
        parse("a.yaml", "seed=1", "b.yaml")


def test_help_says_it_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in ("imagewizard train [CONFIG] [key.path=value …] [--dry-run]", "Trains.", "example: train a.yaml"):
        assert part in text


def test_unknown_option_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse("a.yaml", "--fast")
    assert stop.value.code == 2 and "--fast" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UserError("x is wrong", "give another", "--out"), 2, "error: --out: x is wrong; give another\n"),
        (JobError("the disk is full"), 1, "error: the disk is full\n"),
        (RunLockedError("another driver"), 4, "error: another driver\n"),
        (KeyboardInterrupt(), 130, "stopped; what is committed stays, and the same command goes on from there\n"),
    ],
)
def test_each_way_to_end_has_its_exit_code_and_line(
    error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(argv: list[str]) -> int:
        raise error

    assert shell.run(command, []) == code
    assert capsys.readouterr() == ("", told)


@pytest.fixture
def kept_handler() -> Iterator[None]:
    """Gives SIGTERM the handler back that it had."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("kept_handler")
def test_sigterm_stops_as_ctrl_c_does(capsys: pytest.CaptureFixture[str]) -> None:
    freed = []

    def command(argv: list[str]) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            return 0
        finally:
            freed.append("lease")

    assert shell.run(command, []) == 143 and freed == ["lease"]
    assert capsys.readouterr() == ("", "stopped; what is committed stays, and the same command goes on from there\n")


def test_a_command_that_waits_for_storage_ends_by_sigterm() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        environment |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        command = subprocess.Popen(
            [sys.executable, "-m", "jobs.status", "s3://bucket/run"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        connection, _ = silent.accept()
        with connection:
            command.terminate()
            out, err = command.communicate(timeout=20)
    assert (command.returncode, out) == (143, "")
    assert err == "stopped; what is committed stays, and the same command goes on from there\n"


FOLLOWING = """
import types
from jobs import shell
job = types.SimpleNamespace(id="a", current_id="a-2")
def follow(argv):
    with shell.following(job, None):
        while True:
            print("a line", flush=True)
shell.sys.exit(shell.run(follow, []))
"""


def test_the_end_of_a_logs_reader_is_no_success_of_the_job() -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", FOLLOWING], text=True, **pipes) as command:
        assert command.stdout is not None and command.stderr is not None
        command.stdout.readline()
        command.stdout.close()
        told = command.stderr.read()
    assert command.returncode == 1
    assert told.splitlines() == [
        "error: nobody reads the log any more; left a-2 as it is",
        "to follow it: imagewizard logs --follow a",
        "to stop it:   imagewizard stop a",
    ]


@pytest.mark.parametrize("command", [denoise, demo, manifest])
def test_the_end_of_stdouts_reader_does_not_keep_a_job_from_its_work(
    command: ModuleType, tmp_path: Path, unread: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*arguments: object) -> None:
        raise JobError("the work has begun")

    monkeypatch.setattr(denoise_job, "execute", work)
    monkeypatch.setattr(standalone, "write", work)
    monkeypatch.setattr(sys, "stdout", unread)
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "in", 1, 32)
    words = {denoise: ["input=in", "output=run"], demo: [], manifest: ["in", "--out", "manifest"]}
    assert shell.run(command.main, words[command]) == shell.BROKE


@pytest.mark.usefixtures("kept_handler")
def test_a_user_without_a_home_and_an_entry_in_passwd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.delenv("HOME")
    assert shell.run(manifest.main, ["~/none", "--out", f"{tmp_path}/manifest"]) == shell.WRONG_INPUT
    assert capsys.readouterr().err.startswith("error: /none does not exist; ")


@pytest.mark.usefixtures("kept_handler")
def test_a_working_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert shell.run(manifest.main, ["in", "--out", "manifest"]) == shell.WRONG_INPUT
    assert capsys.readouterr().err == "error: the working folder is not there any more; change to another one (cd)\n"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        shell.run(lambda argv: 1 // 0, [])


def test_a_commands_own_code_is_handed_on() -> None:
    assert shell.run(lambda argv: len(argv), ["a", "b", "c"]) == 3
