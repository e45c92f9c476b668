"""cluster/kuberay/: the manifests against KubeRay's schemas, and against what the project's own commands accept."""

import copy
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from imagewizard.config.denoise import DenoiseConfig
from imagewizard.config.loading import load, split_words
from imagewizard.config.train import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "cluster" / "kuberay"
CLUSTERS = ["raycluster.yaml", "rayjob-denoise.yaml", "rayjob-train.yaml"]
JOBS = {"rayjob-denoise.yaml": DenoiseConfig, "rayjob-train.yaml": TrainConfig}
IMAGE = "REGISTRY/imagewizard:0.1.0"


@cache
def manifest(file: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / file).read_text())


def cluster(file: str) -> dict[str, Any]:
    spec = manifest(file)["spec"]
    return spec.get("rayClusterSpec", spec)


def groups(file: str) -> list[dict[str, Any]]:
    """The head's group and those of the workers."""
    return [cluster(file)["headGroupSpec"], *cluster(file)["workerGroupSpecs"]]


def pod(group: dict[str, Any]) -> dict[str, Any]:
    return group["template"]["spec"]


def gibibytes(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([GM]i)", text).groups()
    return int(number) / {"Gi": 1, "Mi": 1024}[unit]


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    """{kind: its schema, as strict as an API server that refuses unknown fields}."""
    folder = ROOT.parent / "shared" / "data" / "kuberay-crds"
    if not folder.is_dir():
        pytest.skip("needs the custom-resource definitions in ../shared/data, which are not there")
    found = {}
    for name in ("rayclusters", "rayjobs"):
        # Without the older version, which is the list's second item; and not by PyYAML's own parser: seconds.
        head, first, *_ = (folder / f"ray.io_{name}.yaml").read_text().split("\n  - ")
        crd = yaml.load(f"{head}\n  - {first}", yaml.CSafeLoader)
        (version,) = crd["spec"]["versions"]
        assert version["name"] == "v1"
        schema = version["schema"]["openAPIV3Schema"]
        close(schema)
        found[crd["spec"]["names"]["kind"]] = jsonschema.Draft202012Validator(schema)
    return found


def close(schema: Any) -> None:
    """Makes it refuse unknown fields wherever it does not say to keep them."""
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            close(value)
    elif isinstance(schema, list):
        for value in schema:
            close(value)


@pytest.mark.parametrize("file", CLUSTERS)
def test_kuberays_schema_accepts_it(file: str, schemas: dict[str, Any]) -> None:
    resource = manifest(file)
    assert resource["apiVersion"] == "ray.io/v1"
    assert [error.message for error in schemas[resource["kind"]].iter_errors(resource)] == []


@pytest.mark.parametrize(
    "place",
    [
        "spec",
        "spec.rayClusterSpec.authOptions",
        "spec.rayClusterSpec.workerGroupSpecs.0",
        "spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.resources",
        "spec.rayClusterSpec.headGroupSpec.template.spec.volumes.0.emptyDir",
    ],
)
def test_the_schema_refuses_an_unknown_field(place: str, schemas: dict[str, Any]) -> None:
    resource = copy.deepcopy(manifest("rayjob-denoise.yaml"))
    section = resource
    for key in place.split("."):
        section = section[int(key) if key.isdigit() else key]
    section["replcas"] = 1
    (error,) = schemas["RayJob"].iter_errors(resource)
    assert "replcas" in error.message


def test_all_three_have_the_same_cluster() -> None:
    first, *others = map(cluster, CLUSTERS)
    assert all(other == first for other in others)


def test_ray_is_the_version_of_the_lock_file_and_every_container_has_the_image() -> None:
    (version,) = re.findall(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    (package,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for file in CLUSTERS:
        assert cluster(file)["rayVersion"] == version
        assert [container["image"] for group in groups(file) for container in pod(group)["containers"]] == [IMAGE] * 3
    assert IMAGE.endswith(f":{package}")
    for file in ("aws.yaml", "Dockerfile", "README.md"):
        assert set(re.findall(r"REGISTRY/imagewizard:[\w.]+", (ROOT / "cluster" / file).read_text())) <= {IMAGE}


def test_a_token_is_needed_and_none_is_written_down() -> None:
    for file in CLUSTERS:
        assert cluster(file)["authOptions"] == {"mode": "token"}
        assert cluster(file)["headGroupSpec"]["serviceType"] == "ClusterIP"
    for path in FOLDER.iterdir():
        assert not re.search(r"AKIA|ASIA|AWS_|auth_token|\b[0-9a-f]{32,}\b", path.read_text())


def test_gpu_workers_grow_from_none_and_no_task_runs_on_the_head() -> None:
    for file in CLUSTERS:
        assert cluster(file)["enableInTreeAutoscaling"] is True
        head, gpu, cpu = groups(file)
        assert head["rayStartParams"]["num-cpus"] == "0"
        assert [gpu["groupName"], cpu["groupName"]] == ["gpu", "cpu"]
        # Decoding reserves nothing, so the autoscaler would never start a pod for it.
        for group, least in ((gpu, 0), (cpu, 1)):
            assert group["minReplicas"] == group["replicas"] == least < group["maxReplicas"]


def test_containers_get_what_they_ask_for_and_gpus_are_in_the_gpu_group_alone() -> None:
    for file in CLUSTERS:
        gpus = []
        for group in groups(file):
            (container,) = pod(group)["containers"]
            resources = container["resources"]
            assert resources["limits"] == resources["requests"]
            gpus.append(int(resources["limits"].get("nvidia.com/gpu", 0)))
            # KubeRay tells Ray of as many GPUs as the container has, where this does not say otherwise.
            assert "num-gpus" not in group["rayStartParams"]
        assert gpus == [0, 1, 0]


def test_the_object_store_fits_in_shared_memory_and_that_in_memory() -> None:
    for file in CLUSTERS:
        for group in groups(file):
            (container,), (volume,) = pod(group)["containers"], pod(group)["volumes"]
            assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/dev/shm"}]
            assert volume["emptyDir"]["medium"] == "Memory"
            shared = gibibytes(volume["emptyDir"]["sizeLimit"])
            assert int(group["rayStartParams"]["object-store-memory"]) <= shared * 2**30
            assert shared <= gibibytes(container["resources"]["limits"]["memory"]) / 3


def test_pods_have_the_account_with_the_role_a_user_and_time_to_end() -> None:
    account = manifest("serviceaccount.yaml")
    assert account["kind"] == "ServiceAccount" and account["apiVersion"] == "v1"
    assert account["metadata"]["annotations"].keys() == {"eks.amazonaws.com/role-arn"}
    for file in CLUSTERS:
        for group in groups(file):
            assert pod(group)["serviceAccountName"] == account["metadata"]["name"]
            assert pod(group)["securityContext"] == {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000}
            assert pod(group)["terminationGracePeriodSeconds"] >= 30


def test_a_head_ends_the_driver_before_ray_kills_it() -> None:
    """tests/end_to_end/test_submit.py runs the command while a job runs."""
    for file in CLUSTERS:
        head = pod(groups(file)[0])
        shell, option, script = head["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert (shell, option) == ("sh", "-c")
        (seconds,) = re.findall(r"seq (\d+)", script)
        assert 30 <= int(seconds) <= head["terminationGracePeriodSeconds"] - 30
        for pattern in re.findall("-f '(.*)'", script):
            assert all(re.match(pattern, f"python -m jobs.{command} a=b") for command in ("denoise", "train"))
            assert not re.match(pattern, f"sh -c {script}")


@pytest.mark.parametrize("file", JOBS)
def test_a_jobs_command_is_one_that_the_project_accepts(file: str) -> None:
    spec = manifest(file)["spec"]
    python, option, module, *words = spec["entrypoint"].split()
    assert [python, option, module] == ["python", "-m", file.replace("rayjob-", "jobs.").removesuffix(".yaml")]
    path, overrides = split_words(words)
    assert path is None
    config = load(JOBS[file], None, overrides)
    images = [config.input] if isinstance(config, DenoiseConfig) else [config.data.train, config.data.validation]
    assert all(uri.startswith("s3://BUCKET/") for uri in [*images, config.output])
    # As many as there can be nodes; and without these the job would take the empty cluster for all there is.
    gpu = cluster(file)["workerGroupSpecs"][0]
    resources = config.resources
    wanted = resources.actors if isinstance(config, DenoiseConfig) else resources.workers
    each = resources.gpus_per_actor if isinstance(config, DenoiseConfig) else resources.gpus_per_worker
    assert (wanted, each) == ((1, gpu["maxReplicas"]), 1)


@pytest.mark.parametrize("file", JOBS)
def test_a_job_is_tried_again_and_its_cluster_ends_with_it(file: str) -> None:
    spec = manifest(file)["spec"]
    assert spec["submissionMode"] == "K8sJobMode" and spec["shutdownAfterJobFinishes"] is True
    # At least two: after a driver that was killed, the first retry may come before the run's lease has ended.
    assert spec["backoffLimit"] >= 2
