"""cluster/aws.yaml, as Ray's cluster launcher reads it, and as EC2 (moto's) starts its machines."""

import copy
import re
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
import yaml
from ray.autoscaler._private.providers import _NODE_PROVIDERS
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).resolve().parents[2] / "cluster" / "aws.yaml"
TOKEN = "~/.ray/auth_token"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """With the launcher's defaults."""
    return prepare_config(yaml.safe_load(FILE.read_text()))


def types(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return config["available_node_types"]


def test_the_launcher_accepts_it(config: dict[str, Any]) -> None:
    validate_config(config)
    assert config["provider"]["type"] == "aws" and config["head_node_type"] == "head"


@pytest.mark.parametrize("section", [(), ("docker",), ("available_node_types", "gpu")], ids=str)
def test_the_launcher_refuses_an_unknown_key(config: dict[str, Any], section: tuple[str, ...]) -> None:
    changed = copy.deepcopy(config)
    place = changed
    for key in section:
        place = place[key]
    place["immage"] = 1
    with pytest.raises(jsonschema.ValidationError, match="immage"):
        validate_config(changed)


def test_nothing_but_the_head_is_kept_and_workers_are_spot(config: dict[str, Any]) -> None:
    assert types(config).keys() == {"head", "gpu", "cpu"}
    head, *workers = (types(config)[name] for name in ("head", "gpu", "cpu"))
    assert head["max_workers"] == 0 and "InstanceMarketOptions" not in head["node_config"]
    for worker in workers:
        # Decoding reserves nothing, so the autoscaler would never start a machine for it.
        assert worker["min_workers"] == (0 if worker["resources"]["GPU"] else 1) < worker["max_workers"]
        assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert sum(worker["max_workers"] for worker in workers) == config["max_workers"]
    assert config["idle_timeout_minutes"] > 0 and not config["provider"]["cache_stopped_nodes"]


def test_no_task_runs_on_the_head_and_gpus_are_on_gpu_nodes(config: dict[str, Any]) -> None:
    resources = {name: node["resources"] for name, node in types(config).items()}
    assert resources["head"] == {"CPU": 0, "GPU": 0}
    assert resources["gpu"]["GPU"] > 0 and resources["cpu"]["GPU"] == 0 < resources["cpu"]["CPU"]
    containers = {name: node.get("docker", {}).get("worker_run_options", []) for name, node in types(config).items()}
    assert [name for name, options in containers.items() if "--gpus all" in options] == ["gpu"]


def test_machines_have_roles_and_the_file_has_no_secret(config: dict[str, Any]) -> None:
    text = FILE.read_text()
    assert not re.search(r"AKIA|ASIA|aws_(access|secret|session)|RAY_AUTH_TOKEN|\b[0-9a-f]{32,}\b", text)
    assert "aws_credentials" not in config["provider"] and "ssh_private_key" not in config["auth"]
    roles = {name: node["node_config"]["IamInstanceProfile"]["Name"] for name, node in types(config).items()}
    assert roles == {"head": "imagewizard-head", "gpu": "imagewizard-worker", "cpu": "imagewizard-worker"}


def test_ray_starts_with_a_token_and_the_dashboard_on_loopback(config: dict[str, Any]) -> None:
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {TOKEN: TOKEN}
    (start,) = [command for command in config["head_start_ray_commands"] if "ray start" in command]
    assert "--dashboard-host=127.0.0.1" in start and "--autoscaling-config=~/ray_bootstrap_config.yaml" in start


def test_the_image_is_all_that_is_installed(config: dict[str, Any]) -> None:
    assert config["docker"]["image"].startswith("REGISTRY/imagewizard:")
    assert config["head_setup_commands"] == config["worker_setup_commands"] == []


def test_every_container_has_shared_memory_and_every_machine_a_disk(config: dict[str, Any]) -> None:
    options = {"head": config["docker"]["head_run_options"]}
    options |= {name: types(config)[name]["docker"]["worker_run_options"] for name in ("gpu", "cpu")}
    for name, node in types(config).items():
        assert [option for option in options[name] if re.fullmatch(r"--shm-size=\d+g", option)], name
        (disk,) = node["node_config"]["BlockDeviceMappings"]
        assert disk["Ebs"]["VolumeSize"] >= 100


@pytest.mark.usefixtures("bucket")
def test_the_launcher_starts_a_machine_of_each_type(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto3 checks each field of `node_config`; moto knows the instance types."""
    monkeypatch.setenv("HOME", str(tmp_path))  # the launcher writes its SSH key there
    for name in ("imagewizard-head", "imagewizard-worker"):
        boto3.client("iam").create_instance_profile(InstanceProfileName=name)
    provider_class = _NODE_PROVIDERS["aws"](config["provider"])
    ready = provider_class.bootstrap_config(config)
    provider = provider_class(ready["provider"], ready["cluster_name"])
    for name, node in types(ready).items():
        tags = {"ray-node-type": "worker", "ray-user-node-type": name, "ray-launch-config": "any"}
        (machine,) = provider.create_node(node["node_config"], tags, 1).values()
        assert machine.instance_type == node["node_config"]["InstanceType"]
        assert machine.iam_instance_profile["Arn"].endswith(node["node_config"]["IamInstanceProfile"]["Name"])
        assert machine.instance_lifecycle == (None if name == "head" else "spot")
        # What the file declares is what the machine has.
        found = boto3.client("ec2").describe_instance_types(InstanceTypes=[machine.instance_type])
        (kind,) = found["InstanceTypes"]
        if name != "head":
            assert node["resources"]["CPU"] == kind["VCpuInfo"]["DefaultVCpus"]
        gpus = kind.get("GpuInfo", {"Gpus": []})["Gpus"]
        assert node["resources"]["GPU"] == sum(gpu["Count"] for gpu in gpus)
