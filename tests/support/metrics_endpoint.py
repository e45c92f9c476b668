"""What Prometheus would read of a Ray cluster: the metrics endpoint of each of its nodes."""

import re
import time

import pytest
import ray
import requests

# A driver reports every 10 s.
PATIENCE_SECONDS = 45


def samples(run: str) -> dict[str, float]:
    """{name: value} of the metrics that are tagged with a run, now."""
    found = {}
    for node in ray.nodes():
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        for line in requests.get(address, timeout=10).text.splitlines():
            match = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line)
            if match and f'run="{run}"' in match[2]:
                found[match[1]] = float(match[3])
    return found


def wait_for(run: str, expected: dict[str, float]) -> dict[str, float]:
    """The metrics of a run once they are as expected, or when patience ends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := samples(run)) != pytest.approx(expected) and time.monotonic() < deadline:
        time.sleep(1)
    return found
