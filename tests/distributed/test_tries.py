"""A block that has ended as many actors as it may is refused; one that was done is forgotten."""

import uuid

import pytest

from imagewizard.distributed import tries
from imagewizard.errors import JobError

pytestmark = pytest.mark.usefixtures("ray_cluster")


class DeadError(BaseException):
    """Stands in for the death of the process."""


def test_a_block_may_end_a_few_actors() -> None:
    run = uuid.uuid4().hex
    for _ in range(tries.MOST):
        with pytest.raises(DeadError), tries.counted(run, "a"):
            raise DeadError
    with pytest.raises(JobError, match="block a has ended 4 actors"), tries.counted(run, "a"):
        pytest.fail("it is tried once more")


def test_what_was_done_counts_no_longer() -> None:
    run = uuid.uuid4().hex
    for _ in range(2 * tries.MOST):
        with tries.counted(run, "a"):
            pass
