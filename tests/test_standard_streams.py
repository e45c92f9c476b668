"""A command whose stdout or stderr is closed, unread, full, non-blocking, or lacks a sign. Each is a process."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagewizard import standard_streams

PRINTS = """
import sys
from imagewizard import standard_streams
from imagewizard.progress import Printer, Repeater
from jobs import shell
def command(argv):
    report = Printer()
    for number in range(5000):
        report("a line of text")
    return 3
def works(argv):
    standard_streams.go_on_unread()
    return command(argv)
def fails(argv):
    print("nobody reads this")
    raise shell.UserError("something is wrong", "")
def files(argv):
    with open(argv[0], "w") as stream:
        print("for the screen", flush=True)
        print("for stderr", file=sys.stderr)
        assert stream.fileno() > 2
    return 3
def other_pipe(argv):
    raise BrokenPipeError(32, "another pipe")
def sign(argv):
    print("σ \\udce9.png", flush=True)
    return 0
sys.exit(shell.run(globals()[sys.argv[1]], sys.argv[2:]))
"""


def run(what: str, redirections: str, *words: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr (as far as they are not redirected) of a command of PRINTS."""
    shell = ["bash", "-c", f'"$0" "$@" {redirections}; exit ${{PIPESTATUS[0]}}', sys.executable, "-c", PRINTS]
    done = subprocess.run([*shell, what, *words], capture_output=True, text=True, env=os.environ | environment)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("redirections", ["| head -1", "| true", ">&-", "> /dev/full", ">&- 2>&-", "2>&- | true"])
def test_nothing_about_stdout_stops_what_works(redirections: str) -> None:
    code, out, err = run("works", redirections)
    assert (code, err) == (3, "") and out in ("", "a line of text\n")


def test_what_prints_ends_without_a_word_when_its_reader_does() -> None:
    assert run("command", "| head -1") == (0, "a line of text\n", "")


def test_the_end_of_another_pipes_reader_is_a_bug_or_a_failure() -> None:
    code, _, err = run("other_pipe", "")
    assert code == 1 and "another pipe" in err


def test_what_prints_says_that_the_disk_is_full() -> None:
    full = "error: stdout cannot be written (No space left on device)\n"
    assert run("command", "> /dev/full") == (1, "", full)
    assert run("sign", "> /dev/full", PYTHONIOENCODING="utf-8") == (1, "", full)


@pytest.mark.parametrize("redirections", ["| true", "> /dev/full", ">&-"])
def test_an_error_is_one_also_where_nobody_reads(redirections: str) -> None:
    code, out, err = run("fails", redirections)
    assert (code, out) == (2, "") and err.startswith("error: something is wrong\n")


@pytest.mark.parametrize("redirections", ["2>&-", "2> /dev/full", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_gets_into_no_file(redirections: str, tmp_path: Path) -> None:
    code, out, _ = run("files", redirections, f"{tmp_path}/file")
    assert code == 3 and out == ("" if ">&- 2" in redirections else "for the screen\n")
    assert (tmp_path / "file").read_text() == ""
    assert run("fails", "2>&-")[0] == 2


def test_a_sign_that_the_encoding_lacks_is_escaped() -> None:
    assert run("sign", "", PYTHONIOENCODING="ascii")[:2] == (0, "\\u03c3 \\udce9.png\n")
    assert run("sign", "", PYTHONIOENCODING="utf-8")[:2] == (0, "σ \\udce9.png\n")


def test_a_full_pipe_that_does_not_block_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = subprocess.Popen([sys.executable, "-c", PRINTS, "command"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    time.sleep(0.5)  # it fills the pipe, 64 KiB
    with os.fdopen(reader, "rb") as stream:
        assert stream.read() == b"a line of text\n" * 5000
    assert (process.wait(), process.communicate()[1]) == (3, b"")


def test_streams_that_somebody_has_replaced_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    standard_streams.prepare()
    standard_streams.go_on_unread()
    assert (sys.stdout, sys.stderr) == before
