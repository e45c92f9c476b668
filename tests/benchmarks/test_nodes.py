"""The benchmark of several nodes: it measures a real job on a real cluster, and counts what it should."""

import subprocess
from pathlib import Path

import pytest

from imagewizard.benchmarks import nodes
from tests.support import submitting
from tests.support.local_cluster import LocalCluster


@pytest.mark.long
def test_a_cluster_is_measured(token_cluster: LocalCluster, tmp_path: Path) -> None:
    words = ["1", "--images=300", "--seconds=0.02", f"--address={token_cluster.gcs_address}"]
    measuring = submitting.start(
        words, tmp_path, token_cluster.environment, module="imagewizard.benchmarks.nodes", stderr=subprocess.DEVNULL
    )
    output, _ = measuring.communicate(timeout=200)
    assert measuring.returncode == 0
    assert 0 < float(output.splitlines()[-1]) < 2 / 0.02, "two actors that sleep cannot do more"


def test_efficiency_is_the_rate_of_a_node_beside_that_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    nodes.report({1: 10.0, 3: 27.0}, seconds=0.1)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("1 node of 1 CPU:    10.00 images/s, scaling efficiency 1.000, 1.000 of")
    assert second.startswith("3 nodes of 1 CPU:   27.00 images/s, scaling efficiency 0.900, 0.900 of")
