"""What is sent to a cluster, and what is refused before."""

import json
import shlex
import zipfile
from pathlib import Path

import pytest
import yaml

from imagewizard import __version__, config
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.config.train import TrainConfig
from imagewizard.distributed import submission
from imagewizard.distributed.submission import Submission
from imagewizard.errors import UserError

PATHS = ["input=s3://photos/in", "output=s3://runs/out"]
TRAIN = ["data.train=/photos", "data.validation=/more", "output=/runs/t", "model=embedded", "optimizer.epochs=1"]


def denoise(folder: Path, *words: str, path: str | None = None) -> Submission:
    return submission.prepare("denoise", path, [*PATHS, *words], folder)


def archive(sent: Submission, tmp_path: Path) -> dict[str, bytes]:
    with sent.write_archive() as folder, zipfile.ZipFile(Path(folder) / "package.zip") as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_the_same_words_reach_the_cluster_each_quoted(tmp_path: Path) -> None:
    hostile = "images={format: png, quality: 90} # $(touch /tmp/x); 'q'"
    sent = denoise(tmp_path, hostile)
    assert shlex.split(sent.entrypoint) == ["python", "-m", "jobs.denoise", *PATHS, hostile]


def test_a_config_in_the_folder_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "my.yaml").write_text("seed: 7\n")
    (tmp_path / ".gitignore").write_text("configs/\n")
    monkeypatch.chdir(tmp_path)
    sent = denoise(tmp_path, path="configs/my.yaml")
    assert shlex.split(sent.entrypoint)[3] == "configs/my.yaml"
    assert archive(sent, tmp_path)["configs/my.yaml"] == b"seed: 7\n", "although it is ignored"
    assert sent.config.seed == 7


def test_a_config_from_elsewhere_is_sent_along(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "my.yaml").write_text("seed: 7\n")
    (tmp_path / "here").mkdir()
    sent = denoise(tmp_path / "here", path=str(tmp_path / "elsewhere" / "my.yaml"))
    assert shlex.split(sent.entrypoint)[3] == ".imagewizard/my.yaml"
    assert archive(sent, tmp_path) == {".imagewizard/my.yaml": b"seed: 7\n"}


def test_a_config_object_travels_as_words_that_give_it_back() -> None:
    job = DenoiseConfig.model_validate(
        {"input": ["/a b", "s3://x/y"], "output": "/o'", "noise": {"sigma": [15, 25]}, "submit": {"cpus": 1}}
    )
    sent = submission.of_config(job)
    back = config.load(DenoiseConfig, None, shlex.split(sent.entrypoint)[3:])
    assert back == job.model_copy(update={"submit": back.submit})
    assert sent.package is None and "working_dir" not in sent.arguments(Path())["runtime_env"]
    one = DenoiseConfig.model_validate({"input": "s3://x/a b", "output": "/o #1", "model": "/m"})
    sent = submission.of_config(one)
    back = config.load(DenoiseConfig, None, shlex.split(sent.entrypoint)[3:])
    assert back == one.model_copy(update={"submit": back.submit})
    training = config.load(TrainConfig, None, TRAIN)
    assert shlex.split(submission.of_config(training).entrypoint)[:3] == ["python", "-m", "jobs.train"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["input=photos"], "input: photos is a relative path"),
        (["input=[s3://a/b, photos]"], "input: photos is a relative path"),
        (["output=~/run"], "output: ~/run is a relative path"),
        (["model=./mine"], "model: ./mine is a relative path"),
        (["model=mine"], "model: mine is a relative path"),
        (["model=models/here"], "model: models/here is a relative path"),
        (["input=gs://a/b"], "input: gs://a/b/x: gs:// is not supported"),
        (["input=s3://me:pw@bucket/in"], "input: the address holds a password"),
        (["resources.address=auto"], "resources.address: a submitted job runs on the cluster that it is sent to"),
        (["submit.env=[NOT_SET_HERE]"], "submit.env: NOT_SET_HERE is not set here"),
        (["submit.env=[AWS_ENDPOINT_URL]"], "submit.env: the value of AWS_ENDPOINT_URL holds a password"),
        (["sigma=3"], "sigma: unknown key"),
    ],
)
def test_what_the_nodes_could_not_find_or_keep_secret_is_refused(
    words: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:pw@s3.example")
    (tmp_path / "models" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        denoise(tmp_path, *words)
    assert str(error.value).startswith(complaint)
    assert "pw" not in str(error.value)


@pytest.mark.parametrize("word", ["data.train=a", "data.validation=b", "model=./c", "output=d"])
def test_relative_paths_of_a_training_are_refused(word: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^{word.partition('=')[0]}: .* is a relative path"):
        submission.prepare("train", None, [*TRAIN, word], tmp_path)
    submission.prepare("train", None, [*TRAIN, "model=owner/on-the-hub"], tmp_path)


def test_other_commands_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'query' cannot be submitted; give one of denoise, train"):
        submission.prepare("query", None, [], tmp_path)


def test_what_is_asked_of_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_OPTION", "on")
    words = [
        "submit.cpus=2",
        "submit.gpus=1",
        "submit.resources={tpu: 3}",
        "submit.env=[MY_OPTION]",
        "submit.uv=[x==1]",
    ]
    sent = denoise(tmp_path, *words)
    asked = sent.arguments(tmp_path / "p.zip")
    assert asked["runtime_env"].items() >= {"working_dir": str(tmp_path / "p.zip"), "uv": ["x==1"]}.items()
    assert asked["runtime_env"]["env_vars"] == {
        "MY_OPTION": "on",
        "RAY_JOB_STOP_WAIT_TIME_S": "30",
        "PYTHONDONTWRITEBYTECODE": "",
    }
    assert (asked["entrypoint_num_cpus"], asked["entrypoint_num_gpus"], asked["entrypoint_memory"]) == (2, 1, None)
    assert sent.reserved == {"CPU": 2, "GPU": 1, "tpu": 3}
    assert "reserves 2 CPU, 1 GPU, 3 tpu" in str(sent) and "env      MY_OPTION" in str(sent)


def test_an_image_takes_no_folder(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({"seed": 3, "noise": {"sigma": 15}}))
    sent = denoise(tmp_path, "submit.image=registry.example/iw:1", path=str(tmp_path / "my.yaml"))
    environment = sent.arguments(tmp_path / "p.zip")["runtime_env"]
    assert environment.keys() == {"image_uri", "env_vars"}
    assert "seed=3" in shlex.split(sent.entrypoint)
    assert "sends    no folder" in str(sent)


def test_the_metadata_tell_jobs_apart_and_hold_no_more(tmp_path: Path) -> None:
    one, same, other = (denoise(tmp_path, *words).metadata for words in ([], ["submit.cpus=1"], ["seed=1"]))
    assert one == same != other
    assert one.keys() == {"imagewizard_version", "imagewizard_config", "imagewizard_output"}
    assert one["imagewizard_version"] == __version__ and json.dumps(one)


@pytest.mark.parametrize("submission_id", ["../x", "", "a b", "a/b", ".hidden", "x" * 101])
def test_ids_that_are_no_file_names_are_refused(submission_id: str) -> None:
    with pytest.raises(UserError, match=r"^--submission-id: "):
        submission.check_id(submission_id)
    submission.check_id(submission.new_id("denoise"))
