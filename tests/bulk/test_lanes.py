"""On a CPU lanes are nothing; on a GPU work in one waits for work in another."""

import pytest
import torch

from imagewizard.bulk.lanes import Lanes


def test_on_a_cpu_nothing_moves() -> None:
    lanes, tensor = Lanes(torch.device("cpu"), ("a",)), torch.arange(3)
    with lanes.lane("a"):
        assert lanes.sent(tensor, torch.device("cpu")) is tensor
        mark = lanes.mark()
    assert mark is None
    lanes.wait(mark, tensor)
    [found] = lanes.fetched(tensor)
    assert found is tensor


@pytest.mark.gpu
def test_work_in_one_lane_waits_for_work_in_another() -> None:
    """Without the mark the sum would be read long before it is there."""
    device = torch.device("cuda")
    lanes = Lanes(device, ("a", "b"))
    for _ in range(5):
        with lanes.lane("a"):
            sent = lanes.sent(torch.ones(1000), device)
            torch.cuda._sleep(100_000_000)
            total = sent.sum()
            mark = lanes.mark()
        with lanes.lane("b"):
            lanes.wait(mark, total)
            [found] = lanes.fetched(total + 1)
        assert found.item() == 1001 and found.is_pinned()
