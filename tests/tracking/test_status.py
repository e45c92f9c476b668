"""The status of a training comes from its folder alone, local or in S3; commands distinguish kinds of runs."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from imagewizard.storage.lease import Lease
from imagewizard.tracking import status as training_status
from jobs import query as query_command
from jobs import report as report_command
from jobs import shell
from jobs import status as command
from tests.support import run_folders, training_runs
from tests.support.training_runs import train_row, validation_row


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run stopped at step 500 of 1500; its best validation is not the last."""
    run = tmp_path / "run"
    training_runs.write_job(run)
    rows = training_runs.rows_until(500)
    training_runs.write_metrics(run, [*rows[:-5], validation_row(450) | {"psnr": 20.0}, *rows[-5:]], cut=b'{"kind"')
    training_runs.write_checkpoint(run, 75)
    training_runs.write_checkpoint(run, 450)
    (run / "checkpoints" / "step-00000500.partial").mkdir()
    (run / "checkpoints" / "zz.json").touch()
    return run


def test_a_stopped_run(run: Path) -> None:
    found = training_status.read(str(run))
    assert (found.state, found.epochs, found.driver, found.eta_seconds) == ("stopped", 20.0, None, None)
    assert found.train == train_row(500)
    assert found.validation == validation_row(450) | {"psnr": 20.0}
    assert found.best_validation == validation_row(300)
    assert [row["step"] for row in found.events] == [430]
    assert found.checkpoint == f"{run}/checkpoints/step-00000450"
    assert f"{found.last_row:%H:%M:%S}" == "12:07:30"


def test_a_run_with_a_driver_is_training_and_has_an_eta(run: Path) -> None:
    with Lease(str(run)):
        found = training_status.read(str(run))
        text = training_status.text(str(run), found)
    assert found.state == "training" and found.driver is not None and found.driver.startswith("pid ")
    assert found.eta_seconds == 900.0
    assert f"{run}: training (pid {os.getpid()} on " in text and "ETA 15:00" in text
    assert "again" not in text


def test_the_text_of_a_stopped_run(run: Path) -> None:
    lines = training_status.text(str(run), training_status.read(str(run))).splitlines()
    row = train_row(500)
    assert lines[0] == f"{run}: stopped"
    assert lines[1].startswith("  epoch 6.67/20  step 500/1500  loss ") and lines[1].endswith(
        f"  {row['images_per_second']:.1f} images/s"
    )
    assert lines[2] == "  33.3 % done, 3.0 % overhead"
    assert lines[3].startswith("  step 450  validation  psnr ") and lines[4].startswith("  best: step 300  validation")
    assert lines[5] == "  step 430  worker 1 died (actor unexpectedly exited); resuming from step 375"
    assert lines[-3] == f"  checkpoint {run}/checkpoints/step-00000450"
    assert lines[-1] == "  run the same `imagewizard train` command again to resume"


def test_a_finished_run_names_its_model(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rows = training_runs.rows_until(1500)
    training_runs.write_job(run)
    training_runs.write_metrics(run, rows)
    training_runs.write_summary(run, rows)
    found = training_status.read(str(run))
    assert found.state == "finished" and found.best_validation is not None
    text = training_status.text(str(run), found)
    assert f"imagewizard denoise model={run}/model" in text and "best:" not in text
    assert f"imagewizard train … model={run}/model output=ANOTHER" in text
    further = training_status.further("s3://b/run/", is_new=True)
    assert further == "model=s3://b/run/model network=null output=ANOTHER"


def test_a_run_with_only_its_job_file(tmp_path: Path) -> None:
    training_runs.write_job(tmp_path)
    found = training_status.read(str(tmp_path))
    assert found == training_status.TrainingStatus("stopped", 20.0, None, None, None, [], None, None, None)
    assert "no step yet" in training_status.text(str(tmp_path), found)


def test_the_status_command_distinguishes_runs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bulk = tmp_path / "bulk"
    run_folders.write_rows(bulk, [run_folders.row("a.png")])
    run_folders.write_job(bulk, 2)
    assert command.main([str(run), str(bulk)]) == shell.DONE
    out = capsys.readouterr().out
    assert f"{run}: stopped\n  epoch 6.67/20" in out and "1 ok, 0 failed, 1 pending" in out
    assert command.main([str(run), str(bulk), "--json"]) == shell.DONE
    training, denoising = map(json.loads, capsys.readouterr().out.splitlines())
    assert training["run"] == str(run) and training["train"]["step"] == 500 and training["state"] == "stopped"
    assert denoising["pending"] == 1
    assert shell.run(command.main, [str(tmp_path / "nowhere")]) == shell.WRONG_INPUT
    assert "no run folder" in capsys.readouterr().err


def test_the_report_command_distinguishes_runs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report_command.main([str(run)]) == shell.DONE
    assert capsys.readouterr().out == f"{run}/report.html\n"
    assert "training report" in (run / "report.html").read_text(encoding="utf-8")


def test_a_query_of_a_training_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run(query_command.main, [str(run), "summary"]) == shell.WRONG_INPUT
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{run}: a training run has no result rows; see imagewizard status" in error


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket="trainings")
    yield "trainings"
    server.stop()


def test_a_run_in_s3(run: Path, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    for path in run.rglob("*"):
        if path.is_file():
            boto3.client("s3").upload_file(str(path), bucket, f"runs/a/{path.relative_to(run)}")
    uri = f"s3://{bucket}/runs/a"
    found = training_status.read(uri)
    assert (found.state, found.checkpoint) == ("stopped", f"{uri}/checkpoints/step-00000450")
    assert found.train == train_row(500)
    assert report_command.main([uri]) == shell.DONE
    assert capsys.readouterr().out == f"{uri}/report.html\n"
    assert shell.run(command.main, ["s3://trainings-that-are-not/a"]) == shell.WRONG_INPUT
    assert capsys.readouterr().err.count("\n") == 1
