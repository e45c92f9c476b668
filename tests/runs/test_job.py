"""What may be an output folder, and what of a run is still open."""

import re
from pathlib import Path

import pytest

from imagewizard.config.denoise import RESULT_KEYS, DenoiseConfig
from imagewizard.errors import UserError
from imagewizard.runs import job as run_job
from imagewizard.schema import RESULTS_VERSION
from imagewizard.storage import Folder


def config(output: Path, **changes: object) -> DenoiseConfig:
    return DenoiseConfig.model_validate({"input": "in", "output": str(output), **changes})


def test_job_yaml_keeps_what_a_rerun_is_compared_with(tmp_path: Path) -> None:
    job = config(tmp_path, noise={"sigma": [15, 25]}, denoise={"mode": "blend", "lambda": 0.25})
    run_job.write_job("denoise", job, "f" * 16)
    stored = run_job.read_job(str(tmp_path))
    assert stored is not None
    assert DenoiseConfig.model_validate(stored["config"]) == job
    run_job.check_same_job(stored, "denoise", job, "f" * 16, RESULT_KEYS)
    for difference, change in (
        ("noise.sigma was [15.0, 25.0], is [25.0]", {"noise": {"sigma": 25}}),
        ("denoise.mode was blend, is ddim; denoise.lambda was 0.25, is 0.5", {"denoise": {"mode": "ddim"}}),
        ("images was null, is set", {"images": {}}),
        ("max_pixels was 100000000, is 5", {"max_pixels": 5}),
        ("seed was 0, is 3", {"seed": 3}),
    ):
        other = DenoiseConfig.model_validate(job.model_dump(by_alias=True) | change)
        with pytest.raises(UserError, match=re.escape(f"other settings ({difference}); give")):
            run_job.check_same_job(stored, "denoise", other, "f" * 16, RESULT_KEYS)
    with pytest.raises(UserError, match=r"model was f+, is 0+"):
        run_job.check_same_job(stored, "denoise", job, "0" * 16, RESULT_KEYS)
    for change in ({"retry_failed": True}, {"resources": {"actors": 7}}, {"input": "./in/"}):
        other = DenoiseConfig.model_validate(job.model_dump(by_alias=True) | change)
        run_job.check_same_job(stored, "denoise", other, "f" * 16, RESULT_KEYS)


def test_a_run_is_not_given_another_input(tmp_path: Path) -> None:
    """It would go on with the images that it listed."""
    run_job.write_job("denoise", config(tmp_path), "f")
    stored = run_job.read_job(str(tmp_path))
    assert stored is not None
    for source, name in (("other", "other"), (["in", "b.png"], "2 files, in among them")):
        line = f"input: the run there is of in, not of {name}; give another output, or resources.keep_manifest=true to"
        with pytest.raises(UserError, match=f"^{re.escape(line)}"):
            run_job.check_same_job(stored, "denoise", config(tmp_path, input=source), "f", RESULT_KEYS)
        kept = config(tmp_path, input=source, resources={"keep_manifest": True})
        run_job.check_same_job(stored, "denoise", kept, "f", RESULT_KEYS)
    for same in ("in/", "./in", str(Path("in").absolute()), ["in"]):
        run_job.check_same_job(stored, "denoise", config(tmp_path, input=same), "f", RESULT_KEYS)


def test_no_rows_are_added_to_those_of_a_version_that_computed_others(tmp_path: Path) -> None:
    job = config(tmp_path)
    run_job.write_job("denoise", job, "f")
    stored = run_job.read_job(str(tmp_path))
    assert stored is not None and stored["results_version"] == RESULTS_VERSION > 1
    del stored["results_version"]  # as before there was one
    with pytest.raises(UserError, match=r"^output: the rows there are of results_version 1, .*; give another output"):
        run_job.check_same_job(stored, "denoise", job, "f", RESULT_KEYS)
    retrying = config(tmp_path, retry_failed=True)
    (tmp_path / "summary.json").write_text('{"failed": 0}')
    for finished in (job, retrying):
        run_job.check_same_job(stored, "denoise", finished, "f", RESULT_KEYS)
    (tmp_path / "summary.json").write_text('{"failed": 2}')
    run_job.check_same_job(stored, "denoise", job, "f", RESULT_KEYS)
    with pytest.raises(UserError, match="results_version"):
        run_job.check_same_job(stored, "denoise", retrying, "f", RESULT_KEYS)


def test_output_that_is_a_file_or_holds_other_files_is_refused(tmp_path: Path) -> None:
    run_job.check_output(str(tmp_path / "new" / "deep"), "in")
    run_job.check_output(str(tmp_path), "in")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        run_job.check_output(str(tmp_path / "file" / "run"), "in")
    with pytest.raises(UserError, match="holds other files"):
        run_job.check_output(str(tmp_path), "in")
    run_job.write_job("denoise", config(tmp_path), "f")
    run_job.check_output(str(tmp_path), "in")


def test_an_output_within_the_input_is_refused(tmp_path: Path) -> None:
    """Its images and rows would be input of the next run."""
    for output, sources in (
        (tmp_path / "in" / "run", f"{tmp_path}/in/"),
        (tmp_path / "in", ["other.png", f"{tmp_path}/in"]),
        ("s3://bucket/in/run", "s3://bucket/in/"),
    ):
        with pytest.raises(UserError, match="which is input; give a folder elsewhere"):
            run_job.check_output(str(output), sources)
    run_job.check_output(str(tmp_path / "input"), f"{tmp_path}/in")


def test_results_without_job_yaml_are_refused(tmp_path: Path, bucket: str) -> None:
    """They would count as done, whatever they were made with."""
    for folder in (str(tmp_path), f"{bucket}/run"):
        Folder(folder).write("results/s00000-b000000-a01.parquet", b"rows")
        with pytest.raises(UserError, match=r"output: .* holds .*; give"):
            run_job.check_output(folder, "in")
        run_job.write_job("denoise", DenoiseConfig(input="in", output=folder), "f")
        run_job.check_output(folder, "in")


def test_job_that_began_before_the_lease_was_ours_is_noticed(tmp_path: Path) -> None:
    run_job.begin("denoise", config(tmp_path), "f", RESULT_KEYS)
    before = (tmp_path / "job.yaml").read_bytes()
    run_job.begin("denoise", config(tmp_path), "f", RESULT_KEYS)
    with pytest.raises(UserError, match="seed was 0, is 1"):
        run_job.begin("denoise", config(tmp_path, seed=1), "f", RESULT_KEYS)
    assert (tmp_path / "job.yaml").read_bytes() == before


def test_job_yaml_tells_the_kind_of_run(tmp_path: Path) -> None:
    assert run_job.kind(str(tmp_path)) is None
    for written in ("train", "denoise"):
        (tmp_path / "job.yaml").write_text(f"kind: {written}\nconfig: {{}}\n")
        assert run_job.kind(str(tmp_path)) == written
    for unknown in ("config: {}\n", "kind: [train]\n"):
        (tmp_path / "job.yaml").write_text(unknown)
        assert run_job.kind(str(tmp_path)) is None


def test_storage_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError("the server\nis gone")

    monkeypatch.setattr(Folder, "read_if_there", fail)
    with pytest.raises(UserError, match=f"^{tmp_path} cannot be read: the server is gone; check"):
        run_job.kind(str(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"noise": {"sigma": 25}},
        {"noise": {"sigma": [15, 25, 50]}},
        {"noise": {"kind": "poisson-gaussian", "a": [0.5, 1, 2], "b": [4, 8]}},
        {"noise": None},
        {"noise": None, "denoise": {"sigma": 5}},
    ],
)
def test_levels_are_those_of_the_config(tmp_path: Path, changes: dict) -> None:
    job = config(tmp_path, **changes)
    run_job.write_job("denoise", job, "f")
    stored = run_job.read_job(str(tmp_path))
    assert stored is not None and run_job.levels(stored["config"]) == job.rows_per_image


def test_config_of_an_older_version_has_the_default_level() -> None:
    assert run_job.levels({"input": "photos"}) == DenoiseConfig(input="photos", output="run").rows_per_image
