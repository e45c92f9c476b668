"""The benchmark of several nodes: it measures what it says, on a real cluster of two."""

import re

import pytest

from imagewizard.benchmarks import nodes


@pytest.mark.long
def test_two_nodes_are_measured(capfd: pytest.CaptureFixture[str]) -> None:
    assert nodes.main(["2", "--images=30", "--seconds=0.02"]) == 0
    printed = capfd.readouterr().out.splitlines()[-1]
    found = re.fullmatch(
        r"2 nodes of 1 CPU: +([\d.]+) images/s, scaling efficiency 1.000, .* of the 100 images/s .*", printed
    )
    assert found
    assert 0 < float(found[1]) < 100, "the sleep allows no more"
