"""Each node of a real cluster is asked, before any work, whether it has the package and sees the files."""

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import imagewizard
from imagewizard.benchmarks.nodes import write_images
from imagewizard.distributed import nodes
from imagewizard.query.sql import records_of
from tests.support import local_cluster, machine_apart, submitting
from tests.support.local_cluster import LocalCluster
from tests.support.models import tiny_model
from tests.support.sample_files import write_photos

NODE = r"on node [0-9.]+ \([0-9a-f]{8}\)"


def test_only_paths_of_this_machine_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").write_bytes(b"x")
    found = nodes.local_paths("input", [f"{tmp_path}/folder", "s3://bucket/key", f"{tmp_path}/list.parquet"])
    assert [(each.path, each.witness) for each in found] == [
        (f"{tmp_path}/folder", f"{tmp_path}/folder/a.png"),
        (f"{tmp_path}/list.parquet", f"{tmp_path}/list.parquet"),
    ]
    assert nodes.local_paths("model", None) == []


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    if not machine_apart.available():
        pytest.skip("needs the right to mount in a namespace of its own (root), to hide files from a node")
    with local_cluster.running(1) as running:
        yield running


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a job, one of which each test hides from a node."""
    folder = tmp_path_factory.mktemp("disk")
    write_photos(folder / "in", 2, 48)
    tiny_model(folder / "models" / "tiny", k=2)
    (folder / "out").mkdir()
    return folder


def submit(cluster: LocalCluster, disk: Path, *words: str) -> tuple[int, str]:
    (disk / "empty").mkdir(exist_ok=True)
    job = [f"input={disk}/in", f"output={disk}/out/run", f"model={disk}/models/tiny", *words]
    return submitting.run(["submit", "denoise", *job], disk / "empty", cluster.environment)


@pytest.mark.long
@pytest.mark.parametrize(
    ("hidden", "complaint"),
    [
        ("in", rf"error: input: DISK/in {NODE} is not what the driver sees \(\S+ is not there\); give a path"),
        ("models", rf"error: model: DISK/models/tiny {NODE} is not what the driver sees"),
        ("out", rf"error: output: DISK/out/run {NODE} is not the folder that the driver sees; give a folder"),
    ],
)
def test_what_a_node_does_not_see_is_refused_before_any_work(
    cluster: LocalCluster, disk: Path, tmp_path: Path, hidden: str, complaint: str
) -> None:
    with machine_apart.joined(cluster, tmp_path / "node.log", [disk / hidden]):
        code, output = submit(cluster, disk)
    assert code == 2, output
    assert re.search(complaint.replace("DISK", str(disk)), output) and "Traceback" not in output
    assert {path.name for path in (disk / "out" / "run").iterdir()} <= {"_lock.json", "_tmp"}


@pytest.mark.long
def test_a_node_that_joins_later_and_does_not_see_the_input_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    """Its images would be rows of errors."""
    write_images(tmp_path / "in", 2000)
    words = [f"input={tmp_path}/in", f"output={tmp_path}/run", "resources.block_rows=2", "resources.actors=[1,8]"]
    words.append(f"resources.address={cluster.gcs_address}")
    job = submitting.start(words, tmp_path, cluster.environment, module="tests.support.slow_denoise")
    while not list((tmp_path / "run" / "results").glob("*.parquet")):
        assert job.poll() is None, job.communicate()
        time.sleep(0.2)
    with machine_apart.joined(cluster, tmp_path / "node.log", [tmp_path / "in"]):
        output, _ = job.communicate(timeout=120)
    assert job.returncode == 2, output
    assert re.search(rf"error: input: {tmp_path}/in {NODE} is not what the driver sees \(\S+ is not there\)", output)
    assert "Traceback" not in output
    found = records_of(f"{tmp_path}/run", "SELECT count(*) AS rows FROM results WHERE status = 'error'")
    assert found == [{"rows": 0}]


def test_files_may_come_and_go_while_a_job_runs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"x")
    (folder,) = nodes.local_paths("input", f"{tmp_path}/in")
    assert folder.trouble(later=False) is None
    (tmp_path / "in" / "a.png").rename(tmp_path / "in" / "b.png")
    assert folder.trouble(later=False) == "a.png is not there"
    assert folder.trouble(later=True) is None
    (tmp_path / "in" / "b.png").unlink()
    assert folder.trouble(later=True) == "a.png is not there", "an empty folder is where a disk is not mounted"
    (file,) = nodes.local_paths("input", __file__)
    assert file.trouble(later=True) is None
    (missing,) = nodes.local_paths("input", f"{tmp_path}/list.parquet")
    assert replace(missing, size=5).trouble(later=True) == "list.parquet is not there"


@pytest.mark.long
def test_a_model_is_not_asked_of_nodes_that_will_run_none(cluster: LocalCluster, disk: Path, tmp_path: Path) -> None:
    name = cluster.add_node(cpus=1, gpus=1)
    try:
        with machine_apart.joined(cluster, tmp_path / "node.log", [disk / "models"]):
            code, output = submit(cluster, disk, "resources.gpus_per_actor=1", "resources.actors=1")
    finally:
        cluster.kill_node(name)
    assert code == 0, output
    shutil.rmtree(disk / "out" / "run")


@pytest.mark.long
def test_a_node_with_another_version_is_refused(cluster: LocalCluster, disk: Path, tmp_path: Path) -> None:
    ours = Path(imagewizard.__file__)
    older = tmp_path / "__init__.py"
    older.write_text(ours.read_text().replace(f'"{imagewizard.__version__}"', '"0.0.9"'))
    with machine_apart.joined(cluster, tmp_path / "node.log", replaced={ours: older}):
        code, output = submit(cluster, disk)
    assert code == 2
    assert re.search(rf"error: node \S+ \(\w+\) has imagewizard 0\.0\.9, the driver {imagewizard.__version__}", output)
