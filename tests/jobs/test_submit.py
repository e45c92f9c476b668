"""imagewizard submit: what is told before anything is sent. tests/end_to_end/test_submit.py has the rest."""

from pathlib import Path

import pytest

from jobs import shell, submit

NOWHERE = ["--address", "http://127.0.0.1:1"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, with a config."""
    (tmp_path / "my.yaml").write_text("noise: {sigma: 15}\n")
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["denoise", "input=in", "output=/o", *NOWHERE], "error: input: in is a relative path"),
        (["denoise", "input=/in", "output=/o", "nosie=1", *NOWHERE], "error: nosie: unknown key; did you mean noise?"),
        (["query", "input=/in", *NOWHERE], "error: 'query' cannot be submitted; give one of denoise, train"),
        (["denoise", "input=/in", "output=/o", "--submission-id", "a/b"], "error: --submission-id: 'a/b' is no id"),
        (["denoise", "input=/in", "output=/o", "--submission-id", ""], "error: --submission-id: '' is no id"),
        (["denoise", "input=/in", "output=/o", "--address", ""], "error: --address: the address is empty"),
        (["denoise", "input=/in", "output=/o"], "error: --address: no cluster is named; give --address"),
        (["denoise", "--retries", "1", "--detach"], "error: --retries: whoever submits a job retries it"),
        (["denoise", "--retries", "-1"], "error: --retries: -1 is no number of retries"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run(submit.main, words) == 2
    out, err = capsys.readouterr()
    assert err.startswith(complaint) and err.count("\n") == 1 and not out


def test_a_dry_run_sends_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["denoise", "my.yaml", "input=/in", "output=/o", "submit.cpus=2", *NOWHERE, "--dry-run"]
    assert shell.run(submit.main, words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "cluster  http://127.0.0.1:1",
        "runs     python -m jobs.denoise my.yaml input=/in output=/o submit.cpus=2",
        f"sends    {here}: 1 file, 0.0 kB, without data, runs and what .gitignore names",
        "reserves 2 CPU",
    ]
