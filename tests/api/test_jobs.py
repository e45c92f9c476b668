"""Jobs and runs from Python: as the commands, silent, and Ray left as it was."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import ray
from ray.data import DataContext

import imagewizard as iw
from imagewizard.distributed import pipeline, train_job
from imagewizard.schema import RESULT_SCHEMA
from imagewizard.storage.lease import Lease
from tests.support import run_folders, training_runs
from tests.support.models import tiny_model
from tests.support.run_folders import row
from tests.support.sample_files import write_photos
from tests.support.stand_ins import StandInActor


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> "iw.Run":
    """A finished run, of 2 photographs at three levels."""
    return iw.Run(run_folders.finished_run(tmp_path_factory.mktemp("run"), images=2))


def test_a_runs_rows_are_current_and_have_the_columns_asked_for(tmp_path: Path) -> None:
    run_folders.write_job(tmp_path, 2)
    run_folders.write_rows(tmp_path, [row("a", psnr=31.0), run_folders.error_row("b", "read", "gone")])
    run_folders.write_rows(tmp_path, [row("b", attempt=2, psnr=29.0)], attempt=2)
    run = iw.Run(tmp_path)
    assert sorted(run.results(["image_id", "psnr"]).to_pylist(), key=lambda each: each["image_id"]) == [
        {"image_id": "a", "psnr": 31.0},
        {"image_id": "b", "psnr": 29.0},
    ]
    assert run.results().schema.names == RESULT_SCHEMA.names
    assert run.dataset().count_rows() == 3
    with pytest.raises(iw.UserError, match=r"^columns: 'psrn' is no column of a run's rows; columns: schema_version, "):
        run.results(["psrn"])


def test_a_run_answers_sql_and_canned_queries(run: "iw.Run") -> None:
    found = run.query("SELECT sigma, count(*) AS images FROM results GROUP BY sigma ORDER BY sigma")
    assert isinstance(found, pa.Table)
    assert found.to_pylist() == [{"sigma": sigma, "images": 2} for sigma in (15.0, 25.0, 50.0)]
    assert run.query("summary").num_rows == 3
    with pytest.raises(iw.UserError, match=r"^SQL: "):
        run.query("SELECT nothing FROM results")


def test_a_run_tells_its_status_and_summary_and_writes_its_report(run: "iw.Run") -> None:
    status = run.status()
    assert (status.state, status.ok, status.failed) == ("finished", 6, 0)  # type: ignore[union-attr]
    assert run.summary() == json.loads((Path(run.uri) / "summary.json").read_text())
    assert Path(run.report()).read_text().startswith("<!doctype html>")
    assert repr(run) == f"Run({run.uri!r})" and not run.is_training


def test_a_trainings_run_tells_its_status_and_has_no_rows(tmp_path: Path) -> None:
    run = iw.Run(training_runs.finished_run(tmp_path))
    assert run.is_training
    assert run.status().state == "finished"
    assert Path(run.report()).is_file()
    with pytest.raises(iw.UserError, match="a training run has no result rows"):
        run.results()


def test_a_training_job_is_the_commands_and_a_finished_one_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the training itself, which tests/distributed/test_train_job.py runs."""
    config = iw.TrainConfig.load(None, ["model=embedded", f"output={tmp_path}/run", *TRAINING])
    done: list[object] = []
    plan = train_job.TrainingPlan(config, None, False, None, time.time())
    monkeypatch.setattr(train_job, "prepare", lambda job: plan if job is config else None)
    monkeypatch.setattr(train_job, "execute", lambda *arguments: done.append(arguments))
    assert iw.run_train_job(config, reporter=print).uri == config.output
    assert done == [(plan, print)]
    monkeypatch.setattr(train_job, "prepare", lambda job: replace(plan, summary={"steps": 1}))
    iw.run_train_job(config)
    assert len(done) == 1


TRAINING = ("data.train=photos", "data.validation=photos", "optimizer={epochs: 1, batch_size: 4, learning_rate: 1e-4}")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    assert iw.Run(tmp_path).summary() is None
    for call in (iw.Run(tmp_path).status, iw.Run(tmp_path).results, iw.Run(tmp_path / "absent").report):
        with pytest.raises(iw.UserError):
            call()


def test_configs_come_from_files_words_and_keywords(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("input: photos\noutput: run\nnoise: {sigma: [15, 25]}\n")
    loaded = iw.DenoiseConfig.load(tmp_path / "job.yaml", ["noise.sigma=50", "seed=3"])
    assert loaded == iw.DenoiseConfig(input="photos", output="run", noise={"sigma": 50}, seed=3)  # type: ignore[arg-type]
    with pytest.raises(iw.UserError, match="did you mean sigma"):
        iw.DenoiseConfig.load(None, ["input=photos", "output=run", "noise.sgima=1"])
    with pytest.raises(iw.UserError, match=r"^output: is required"):
        iw.TrainConfig.load(None, ["model=embedded"])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bulk jobs of this process take StandInActor."""
    build = pipeline.build
    monkeypatch.setattr(pipeline, "build", lambda work, actor, *rest: build(work, StandInActor, *rest))


def job(folder: Path, **values: object) -> "iw.DenoiseConfig":
    write_photos(folder / "in", 4, 32)
    model = str(tiny_model(folder / "model", k=2))
    words = {"input": f"{folder}/in", "output": f"{folder}/run", "model": model, "resources": {"actors": 1}}
    return iw.DenoiseConfig.model_validate(words | values)


@pytest.mark.usefixtures("ray_cluster", "quick")
def test_jobs_run_one_after_another_in_silence_beside_the_callers_own_ray(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before, ours = ray.get_runtime_context().get_job_id(), DataContext.get_current().copy()
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    told: list[str] = []
    first = iw.run_denoise_job(job(tmp_path / "a"), reporter=told.append)
    second = iw.run_denoise_job(job(tmp_path / "b"))
    again = iw.run_denoise_job(job(tmp_path / "b", output=second.uri))
    out, err = capfd.readouterr()
    # Ray's C++ side writes to stderr by itself; in the caller's Ray that is the caller's to silence.
    assert out == "" and [line for line in err.splitlines() if ".cc:" not in line] == []
    assert told[0].startswith("ray ") and told[-1].startswith("4/4 images  0 failed")
    for run in (first, second, again):
        assert run.results().num_rows == 4
    summary = again.summary()
    assert summary is not None and (summary["ok"], summary["session"]["rows"]) == (4, 0), "it was done before"
    assert ray.is_initialized() and ray.get_runtime_context().get_job_id() == before
    assert ray.get(ray.remote(num_cpus=0)(lambda: 7).remote()) == 7
    context = DataContext.get_current()
    for name in ("enable_progress_bars", "target_max_block_size", "raise_original_map_exception", "execution_options"):
        assert getattr(context, name) == getattr(ours, name), name


def test_errors_are_those_of_the_api(tmp_path: Path) -> None:
    with pytest.raises(iw.UserError, match="absent does not exist"):
        iw.run_denoise_job(iw.DenoiseConfig(input=f"{tmp_path}/absent", output=f"{tmp_path}/run"))
    ready = job(tmp_path)
    with Lease(ready.output), pytest.raises(iw.RunLockedError):
        iw.run_denoise_job(ready)
