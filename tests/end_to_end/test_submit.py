"""Jobs that are submitted to a real cluster: what a user sees, and the exit codes."""

import json
import signal
from pathlib import Path

import pytest

from imagewizard.query.sql import records_of
from tests.support import submitting
from tests.support.local_cluster import LocalCluster
from tests.support.models import tiny_model
from tests.support.sample_files import write_photos


def user(cluster: LocalCluster, folder: Path, *words: str, **environment: str) -> tuple[int, str]:
    """(exit code, output) of a command of a user who has exported what the cluster's owner said."""
    return submitting.run(words, folder, cluster.environment | environment)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "in", 3, 48)
    return tmp_path / "in"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The user's folder, with a config."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "my.yaml").write_text("noise: {sigma: 15}\nresources: {actors: 1}\n")
    return tmp_path / "here"


def test_a_job_from_its_submission_to_its_rows(
    token_cluster: LocalCluster, photos: Path, here: Path, tmp_path: Path
) -> None:
    model = tiny_model(tmp_path / "model", k=2)
    words = ["my.yaml", f"input={photos}", f"output={tmp_path}/run", f"model={model}", "submit.env=[MY_OPTION]"]
    submit = ["submit", "denoise", *words, "--submission-id", "first"]
    code, output = user(token_cluster, here, *submit, MY_OPTION="not-shown")
    assert code == 0, output
    assert f"sends    {here}: 1 file, 0.0 MB" in output
    assert "job      first\n" in output and "3/3 images  0 failed" in output and "3 ok, 0 failed" in output
    assert "not-shown" not in output
    rows = records_of(f"{tmp_path}/run", "FROM results")
    assert len(rows) == 3 and {row["sigma"] for row in rows} == {15.0}
    # The same id attaches, tells the same, and runs nothing.
    code, again = user(token_cluster, here, *submit, MY_OPTION="x")
    assert code == 0 and "job      first (attached)\n" in again and "3/3 images  0 failed" in again
    assert records_of(f"{tmp_path}/run", "FROM results") == rows
    # Another job under the same id is refused, not taken for it.
    code, output = user(token_cluster, here, *submit, "seed=1", MY_OPTION="x")
    assert code == 2 and "error: --submission-id: first is the id of a job with other settings" in output
    code, output = user(token_cluster, here, "logs", "first")
    assert code == 0 and "3/3 images  0 failed" in output
    assert "not-shown" not in (tmp_path / "run" / "job.yaml").read_text()
    code, output = user(token_cluster, here, "jobs", "--json")
    found = {job["id"]: job for job in map(json.loads, output.splitlines())}["first"]
    assert (found["status"], found["exit_code"], found["output"]) == ("SUCCEEDED", 0, f"{tmp_path}/run")
    assert "not-shown" not in output


def test_a_users_mistake_on_the_cluster_is_its_one_line_and_2(token_cluster: LocalCluster, here: Path) -> None:
    words = ["input=/nowhere", f"output={here}/run"]
    code, output = user(token_cluster, here, "submit", "denoise", "my.yaml", *words)
    assert code == 2
    assert "error: input: /nowhere does not exist" in output and "Traceback" not in output
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["denoise", "input=in", "output=/o"], "error: input: in is a relative path"),
        (["denoise", "input=/in", "output=/o", "nosie=1"], "error: nosie: unknown key"),
        (["query", "input=/in"], "error: 'query' cannot be submitted"),
        (["denoise", "input=/in", "output=/o", "--submission-id", "a/b"], "error: --submission-id: 'a/b' is no id"),
        (["denoise", "input=/in", "output=/o", "--retries", "1", "--detach"], "error: --retries: whoever submits"),
    ],
)
def test_a_mistake_is_told_before_anything_is_sent(here: Path, words: list[str], complaint: str) -> None:
    code, output = submitting.run(["submit", *words, "--address", "http://127.0.0.1:1"], here, {})
    assert code == 2 and output.startswith(complaint) and output.count("\n") == 1


def test_a_dry_run_sends_nothing(here: Path) -> None:
    words = ["submit", "denoise", "my.yaml", "input=/in", "output=/o", "--address", "http://127.0.0.1:1", "--dry-run"]
    code, output = submitting.run(words, here, {})
    assert code == 0
    assert output.splitlines()[:2] == [
        "cluster  http://127.0.0.1:1",
        "runs     python -m jobs.denoise my.yaml input=/in output=/o",
    ]


def test_ctrl_c_leaves_the_job_running_and_stop_ends_it(
    token_cluster: LocalCluster, here: Path, tmp_path: Path
) -> None:
    write_photos(tmp_path / "in", 150, 256)
    words = [
        "my.yaml",
        f"input={tmp_path}/in",
        f"output={tmp_path}/run",
        "--submission-id",
        "long",
        "noise.sigma=[5,9]",
    ]
    submitted = submitting.start(["submit", "denoise", *words], here, token_cluster.environment)
    assert submitted.stdout is not None
    seen = []
    while "workers are starting" not in (seen or [""])[-1]:
        seen.append(submitted.stdout.readline())
        assert seen[-1], seen
    submitted.send_signal(signal.SIGINT)
    output, _ = submitted.communicate(timeout=60)
    assert submitted.returncode == 130
    assert "to follow it: imagewizard logs --follow long\nto stop it:   imagewizard stop long\n" in output
    job = iw_status(token_cluster, here, "long")
    assert job["status"] == "RUNNING"
    code, output = user(token_cluster, here, "stop", "long")
    assert (code, output) == (0, "long STOPPED\n")
    code, output = user(token_cluster, here, "logs", "--follow", "long")
    assert code == 143
    assert "stopped" in output and not (tmp_path / "run" / "_lock.json").exists(), output
    code, output = user(token_cluster, here, "stop", "long")
    assert (code, output) == (0, "long has ended already: STOPPED\n")


def iw_status(cluster: LocalCluster, folder: Path, submission_id: str) -> dict:
    """What `imagewizard jobs --json` says of a job."""
    _, output = user(cluster, folder, "jobs", "--json")
    return {job["id"]: job for job in map(json.loads, output.splitlines())}[submission_id]
