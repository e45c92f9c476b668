"""Jobs on a cluster whose nodes differ, come and go: where the work runs, and that none of it is lost."""

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imagewizard.benchmarks.nodes import write_images
from imagewizard.models.weights import WEIGHTS
from imagewizard.query.sql import records_of
from imagewizard.storage import Folder
from imagewizard.tracking import checkpoints, history
from tests.support import local_cluster, machine_apart, submitting
from tests.support.local_cluster import LocalCluster
from tests.support.models import tiny_model
from tests.support.s3_faults import FaultyS3
from tests.support.sample_files import write_photos
from tests.support.training_jobs import train_config, write_photographs

pytestmark = pytest.mark.long

# Of trainings, of some 10 ms each: enough for a node to be killed in between.
STEPS = 500
# Of a job from which nodes are taken.
IMAGES = 300

AWS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def cluster(faulty_s3_server: FaultyS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One node of one CPU; its nodes' cache of models is empty, and is not ours."""
    environment = {
        **AWS,
        "AWS_ENDPOINT_URL": faulty_s3_server.endpoint,
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("nodes-cache")),
    }
    with local_cluster.running(1, environment=environment) as running:
        yield running


def have(cluster: LocalCluster, *sizes: tuple[int, int]) -> list[str]:
    """Leaves the cluster with a node for each (CPUs, GPUs); their names."""
    for name in list(cluster.nodes):
        cluster.remove_node(name)
    return [cluster.add_node(cpus, gpus) for cpus, gpus in sizes]


def listed(cluster: LocalCluster, what: str, **filters: str) -> list[dict[str, Any]]:
    """Ray's list of its nodes, tasks or actors."""
    token = Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    query = [("limit", "1000"), ("detail", "true")]
    for key, value in filters.items():
        query += [("filter_keys", key), ("filter_predicates", "="), ("filter_values", value)]
    request = urllib.request.Request(
        f"{cluster.address}/api/v0/{what}?{urllib.parse.urlencode(query)}",
        headers={"Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["data"]["result"]["result"]


def wait_until(there: Callable[[], bool], job: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 400
    while not there():
        assert job.poll() is None and time.monotonic() < deadline, job.communicate()[0]
        time.sleep(0.2)


def output_of(job: "subprocess.Popen[str]") -> str:
    output, _ = job.communicate(timeout=600)
    assert job.returncode == 0, output
    return output


def test_models_run_on_gpus_and_decoding_beside_them(
    cluster: LocalCluster, faulty_s3: FaultyS3, tmp_path: Path
) -> None:
    have(cluster, (1, 0), (2, 1), (2, 1))
    (loaded := tmp_path / "loaded").mkdir()
    run, model = Folder(f"{faulty_s3.bucket}/run"), Folder(f"{faulty_s3.bucket}/model")
    for file in tiny_model(tmp_path / "model", k=2).iterdir():
        model.write(file.name, file.read_bytes())
    write_photos(tmp_path / "in", 8, 32)
    words = ["2", str(loaded), f"input={tmp_path}/in", f"output={run.uri}", f"model={model.uri}"]
    words += ["resources.block_rows=1", f"resources.address={cluster.gcs_address}"]
    environment = cluster.environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    job = submitting.start(words, tmp_path, environment, module="tests.support.denoise_together")
    assert "2 actors of 2 threads, 1 GPU each" in output_of(job)
    assert len(records_of(run.uri, "FROM results WHERE status = 'ok'")) == 8
    gpus = {node["node_id"] for node in listed(cluster, "nodes") if node["resources_total"].get("GPU")}
    (cpu,) = {
        node["node_id"] for node in listed(cluster, "nodes", state="ALIVE") if node["resources_total"].get("CPU") == 1
    }
    actors = [actor for actor in listed(cluster, "actors") if "DenoiseActor" in actor["class_name"]]
    assert len(actors) == 2 and {actor["node_id"] for actor in actors} == gpus, "each has a GPU of its own"
    read: list[dict[str, Any]] = []
    deadline = time.monotonic() + 30
    while len(read) < 8 and time.monotonic() < deadline:  # Ray hears of a task's end a second later
        time.sleep(0.5)
        read = [task for task in listed(cluster, "tasks", state="FINISHED") if "read_block" in task["name"]]
    assert len(read) == 8 and {task["node_id"] for task in read} == {cpu}
    # By the driver, and for all actors: here both nodes have one cache, in which the second waits for the first.
    weights = f"{model.uri.removeprefix('s3://')}/{WEIGHTS}"
    assert faulty_s3.reads[weights] == 2


def test_each_node_loads_the_weights_once(cluster: LocalCluster, faulty_s3: FaultyS3, tmp_path: Path) -> None:
    if not machine_apart.available():
        pytest.skip("needs the right to make a namespace (root), for a node with a cache of its own")
    have(cluster, (2, 2))
    run, model = Folder(f"{faulty_s3.bucket}/run"), Folder(f"{faulty_s3.bucket}/model")
    for file in tiny_model(tmp_path / "model", k=2).iterdir():
        model.write(file.name, file.read_bytes())
    write_photos(tmp_path / "in", 12, 32)
    (loaded := tmp_path / "loaded").mkdir()
    words = ["3", str(loaded), f"input={tmp_path}/in", f"output={run.uri}", f"model={model.uri}"]
    words += ["resources.block_rows=1", f"resources.address={cluster.gcs_address}"]
    own = {"XDG_CACHE_HOME": str(tmp_path / "other-nodes-cache")} | AWS | {"AWS_ENDPOINT_URL": faulty_s3.endpoint}
    before = {actor["actor_id"] for actor in listed(cluster, "actors")}
    with machine_apart.joined(cluster, tmp_path / "node.log", gpus=1, environment=own):
        environment = cluster.environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        job = submitting.start(words, tmp_path, environment, module="tests.support.denoise_together")
        assert "3 actors of 1 thread, 1 GPU each" in output_of(job)
    actors = [actor for actor in listed(cluster, "actors") if "DenoiseActor" in actor["class_name"]]
    nodes = Counter(actor["node_id"] for actor in actors if actor["actor_id"] not in before)
    assert sorted(nodes.values()) == [1, 2]
    weights = f"{model.uri.removeprefix('s3://')}/{WEIGHTS}"
    assert faulty_s3.reads[weights] == 3, "by the driver, and on each of the two nodes"


def test_no_row_is_lost_where_nodes_come_and_go(cluster: LocalCluster, tmp_path: Path) -> None:
    """The pool uses the node that has joined: in the end there is no other."""
    first, second = have(cluster, (1, 0), (1, 0))
    images = write_images(tmp_path / "in", IMAGES)
    words = [f"input={images}", f"output={tmp_path}/run", "resources.block_rows=5", "resources.actors=[1,8]"]
    words.append(f"resources.address={cluster.gcs_address}")
    job = submitting.start(words, tmp_path, cluster.environment, module="tests.support.slow_denoise")

    def blocks() -> int:
        return len(list((tmp_path / "run" / "results").glob("*.parquet")))

    wait_until(lambda: blocks() >= 4, job)
    cluster.kill_node(first)
    cluster.add_node()
    seen = blocks()
    wait_until(lambda: blocks() > seen + 2, job)
    cluster.kill_node(second)
    output = output_of(job)
    assert "2 actors of 1 thread (1 to 8 as the cluster changes)" in output
    assert f"{IMAGES}/{IMAGES} images  0 failed" in output
    assert "\nlost     node " in output and "(raylet)" not in output
    found = records_of(f"{tmp_path}/run", "SELECT count(*) AS rows, count(DISTINCT image_id) AS images FROM attempts")
    assert found == [{"rows": IMAGES, "images": IMAGES}], "none is lost, and none is there twice"


def test_a_training_goes_on_from_its_last_checkpoint_with_the_nodes_that_are_left(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    have(cluster, (1, 0), (1, 0))
    write_photographs(tmp_path)
    config = train_config(
        tmp_path,
        tmp_path / "run",
        optimizer={"epochs": STEPS * 4 / 7},
        validation={"every_epochs": 1000},
        checkpoints={"every_steps": 20},
        resources={"workers": [1, 2], "address": cluster.gcs_address},
    )
    (tmp_path / "run.yaml").write_text(json.dumps(config.model_dump(mode="json", by_alias=True)))
    job = submitting.start(["train", "run.yaml"], tmp_path, cluster.environment)
    run = str(tmp_path / "run")
    wait_until(lambda: checkpoints.latest_step(run) > 0, job)
    worker = next(
        actor for actor in listed(cluster, "actors", state="ALIVE") if actor["class_name"] == "RayTrainWorker"
    )
    (node,) = listed(cluster, "nodes", node_id=worker["node_id"])
    cluster.kill_node(node["labels"]["local-node"])
    killed_at = checkpoints.latest_step(run)
    output = output_of(job)
    (event,) = history.of_kind(history.read(run), "event")
    step = int(re.findall(r"resuming from step (\d+)", event["text"])[0])
    assert killed_at <= step < STEPS and step % 20 == 0, "fewer than 20 steps are repeated"
    assert f"finished after {STEPS} steps" in output and "(raylet)" not in output
