"""Jobs that are submitted to a real cluster: what a user sees, and the exit codes."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import requests
import yaml

from imagewizard.query.sql import records_of
from imagewizard.storage import lease
from tests.support import machine_apart, submitting
from tests.support.local_cluster import LocalCluster
from tests.support.models import tiny_model
from tests.support.sample_files import write_photos

RAYCLUSTER = Path(__file__).resolve().parents[2] / "cluster" / "kuberay" / "raycluster.yaml"
# In each line of a denoise job's progress, of which the first comes within 5 s of its start.
PROGRESS = " images  0 failed  "


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
    code, output = user(token_cluster, here, *submit, MY_OPTION="not-shown", AWS_SECRET_ACCESS_KEY="my-secret")
    assert code == 0, output
    assert f"sends    {here}: 1 file, 0.0 kB" in output
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
    # Nor do secrets reach what Ray keeps of the job.
    secret = Path(token_cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    job = requests.get(
        f"{token_cluster.address}/api/jobs/first", headers={"Authorization": f"Bearer {secret}"}, timeout=10
    )
    for text in (job.text, output, (tmp_path / "run" / "job.yaml").read_text()):
        assert "jobs.denoise" in text or "model" in text
        assert "my-secret" not in text and secret not in text
    code, output = user(token_cluster, here, "jobs", "--json")
    found = {job["id"]: job for job in map(json.loads, output.splitlines())}["first"]
    assert (found["status"], found["exit_code"], found["output"]) == ("SUCCEEDED", 0, f"{tmp_path}/run")
    assert "not-shown" not in output


def test_a_users_mistake_on_the_cluster_is_its_one_line_and_2(token_cluster: LocalCluster, here: Path) -> None:
    words = ["input=/nowhere", f"output={here}/run"]
    code, output = user(token_cluster, here, "submit", "denoise", "my.yaml", *words)
    assert code == 2
    assert f"error: input: /nowhere does not exist (on node {socket.gethostname()}, where the driver runs)" in output
    assert "Traceback" not in output
    assert not (here / "run").exists()


API = """
import imagewizard as iw
import sys
job = iw.submit(iw.DenoiseConfig(input="/nowhere", output="/elsewhere/run"), sys.argv[1], submission_id="api")
code = job.wait(print)
print(job, job.status(), code, job.stop(), "/nowhere does not exist" in job.logs())
"""


def test_the_same_from_python(token_cluster: LocalCluster, here: Path) -> None:
    environment = os.environ | token_cluster.environment | {"RAY_ADDRESS": "http://127.0.0.1:1"}
    command = [sys.executable, "-c", API, token_cluster.address]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=200)
    *log, last = done.stdout.splitlines()
    assert last == f"SubmittedJob('api', address='{token_cluster.address}') FAILED 2 False True", done.stderr
    assert any("error: input: /nowhere does not exist" in line for line in log)


@pytest.mark.long
def test_a_cluster_that_does_not_know_the_command_is_no_reason_to_try_again(
    token_cluster: LocalCluster, here: Path
) -> None:
    (here / "jobs").mkdir()
    (here / "jobs" / "__init__.py").touch()
    words = ["my.yaml", "input=/nowhere", "output=/nowhere/run", "--retries", "1"]
    code, output = user(token_cluster, here, "submit", "denoise", *words, PYTHONSAFEPATH="1")
    assert code == 2
    assert "error: Python on the cluster does not find the command; install imagewizard there" in output
    assert "try 2 of 2" not in output


def wait_for(words: str, process: "subprocess.Popen[str]") -> None:
    """Reads a process's output up to a line with these words."""
    assert process.stdout is not None
    seen: list[str] = []
    while words not in (seen or [""])[-1]:
        seen.append(process.stdout.readline())
        assert seen[-1], "".join(seen)


def job_of(cluster: LocalCluster, folder: Path, submission_id: str) -> dict:
    """What `imagewizard jobs --json` says of a job."""
    _, output = user(cluster, folder, "jobs", "--json")
    return {job["id"]: job for job in map(json.loads, output.splitlines())}[submission_id]


@pytest.mark.long
def test_ctrl_c_leaves_the_job_running_and_stop_ends_it(
    token_cluster: LocalCluster, here: Path, tmp_path: Path
) -> None:
    write_photos(tmp_path / "in", 100, 256)  # more than are denoised before the stop
    words = ["my.yaml", f"input={tmp_path}/in", f"output={tmp_path}/run", "noise.sigma=[5,9,15,20,25,35,50]"]
    submitted = submitting.start(
        ["submit", "denoise", *words, "--submission-id", "long"], here, token_cluster.environment
    )
    wait_for(PROGRESS, submitted)
    submitted.send_signal(signal.SIGINT)
    output, _ = submitted.communicate(timeout=60)
    assert submitted.returncode == 130
    assert "to follow it: imagewizard logs --follow long\nto stop it:   imagewizard stop long\n" in output
    assert job_of(token_cluster, here, "long")["status"] == "RUNNING"
    code, output = user(token_cluster, here, "stop", "long")
    assert (code, output) == (0, "long STOPPED\n")
    code, output = user(token_cluster, here, "logs", "--follow", "long")
    assert code == 143 and "stopped; what is committed stays" in output
    assert lease.holder(f"{tmp_path}/run") is None, "it had the time to free it"
    code, output = user(token_cluster, here, "stop", "long")
    assert (code, output) == (0, "long has ended already: STOPPED\n")
    # The same job again, on a head of Kubernetes that is to end.
    job = submitting.start(["submit", "denoise", *words, "--submission-id", "evicted"], here, token_cluster.environment)
    wait_for(PROGRESS, job)
    head = yaml.safe_load(RAYCLUSTER.read_text())["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    subprocess.run(head["lifecycle"]["preStop"]["exec"]["command"], check=True, timeout=45)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 143 and "stopped; what is committed stays" in output
    assert lease.holder(f"{tmp_path}/run") is None


@pytest.mark.long
def test_a_killed_driver_is_sent_again_and_a_job_without_room_says_why(
    token_cluster: LocalCluster, here: Path, tmp_path: Path
) -> None:
    paths = ["input=/nowhere", "output=/nowhere/run", "submit.gpus=4", "--submission-id", "large"]
    waiting = submitting.start(["submit", "denoise", *paths], here, token_cluster.environment)
    write_photos(tmp_path / "in", 60, 256)
    paths = [f"input={tmp_path}/in", f"output={tmp_path}/run", "--submission-id", "dies", "--retries", "1"]
    dying = submitting.start(
        ["submit", "denoise", "my.yaml", *paths, "resources.block_rows=4"], here, token_cluster.environment
    )
    while not list((tmp_path / "run" / "results").glob("*.parquet")):
        assert dying.poll() is None, dying.communicate()
        time.sleep(0.2)
    holder = lease.holder(f"{tmp_path}/run")
    assert holder is not None
    os.kill(holder["pid"], signal.SIGKILL)
    output, _ = dying.communicate(timeout=400)
    assert dying.returncode == 0, output
    assert "dies ended with exit code 1; try 2 of 2 in 5 s" in output and "60/60 images  0 failed" in output
    names = [row["image_id"] for row in records_of(f"{tmp_path}/run", "FROM attempts")]
    assert len(names) == len(set(names)) == 60, "none lost, none twice"
    assert job_of(token_cluster, here, "dies-2")["exit_code"] == 0
    code, output = user(token_cluster, here, "submit", "denoise", "my.yaml", *paths, "resources.block_rows=4")
    assert code == 0 and "job      dies-2 (attached)" in output
    wait_for("its driver asks for 4 GPUs, the cluster has 0", waiting)
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(30) == 130
    code, output = user(token_cluster, here, "stop", "large")
    assert (code, output) == (0, "large has not begun; it stops when the cluster begins it\n")


def listening(port: int) -> bool:
    """Whether a server has opened a port of the loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.long
def test_a_head_that_starts_is_waited_for_and_one_that_is_lost_is_told(here: Path, tmp_path: Path) -> None:
    # Not of the range of which the system, and so other clusters, choose: the head binds it seconds later.
    ports = random.sample(range(20_000, 32_000), 100)
    port = next(port for port in ports if not listening(port) and not listening(port + 1))
    (token := tmp_path / "token").write_text("a" * 64)
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    folder = tempfile.mkdtemp(prefix="iw-", dir="/tmp")  # a short path, for Ray's sockets
    write_photos(tmp_path / "in", 300, 256)  # more than are denoised before the end
    paths = [f"input={tmp_path}/in", f"output={tmp_path}/run", "--address", f"http://127.0.0.1:{port}"]
    head = machine_apart.start_head(Path(folder), port, environment, tmp_path / "head.log")
    try:
        while not listening(port):
            assert head.poll() is None, (tmp_path / "head.log").read_text()
            time.sleep(0.1)
        words = ["submit", "denoise", "my.yaml", *paths]
        submitted = submitting.start(words, here, environment, module="tests.support.impatient")
        wait_for(PROGRESS, submitted)
        head.kill()
        output, _ = submitted.communicate(timeout=90)
    finally:
        head.kill()
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)
    assert submitted.returncode == 1
    assert f"error: lost the cluster at http://127.0.0.1:{port}: " in output and "Traceback" not in output
