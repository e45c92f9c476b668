"""What a driver learns from Ray about the job that it is."""

import json

import pytest

from imagewizard import __version__
from imagewizard.distributed import ray_job
from imagewizard.errors import UserError
from jobs import denoise, shell, train

VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def test_a_process_that_ray_has_not_started_is_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert ray_job.description() == {}
    ray_job.check_version()


@pytest.mark.parametrize("command", [denoise, train])
def test_another_version_is_refused_before_its_config_is_read(
    command: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, json.dumps({"metadata": {ray_job.VERSION: "0.0.9"}}))
    assert shell.run(command.main, ["input.of=another-version"]) == 2
    assert f"the cluster has imagewizard {__version__}, and the job was submitted by 0.0.9" in capsys.readouterr().err
    monkeypatch.setenv(VARIABLE, json.dumps({"metadata": {ray_job.VERSION: __version__}}))
    ray_job.check_version()
    monkeypatch.setenv(VARIABLE, json.dumps({"metadata": {"someone": "else's"}}))
    with pytest.raises(UserError, match=r"is required|must be"):
        command.main(["input.of=another-version"])


def test_a_submitted_jobs_error_about_a_file_names_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UserError, match=r"^input: /x is not there; mend it$"), ray_job.naming_the_node():
        raise UserError("/x is not there", "mend it", "input")
    monkeypatch.setenv(VARIABLE, '{"metadata": {}}')
    complaint = r"^input: /x is not there \(on node \S+, where the driver runs\); mend it$"
    with pytest.raises(UserError, match=complaint), ray_job.naming_the_node():
        raise UserError("/x is not there", "mend it", "input")
