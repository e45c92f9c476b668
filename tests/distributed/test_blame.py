"""The record of a block that ends processes says which of its images is to blame."""

import uuid

import pytest

from imagewizard.distributed import blame
from imagewizard.distributed.blame import Watch
from imagewizard.errors import JobError

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def run() -> str:
    return uuid.uuid4().hex


def died(run: str, block: str, *images: tuple[str, str]) -> Watch:
    """The record of a block after its process has ended at the last of these images and stages."""
    watch = Watch(run, block)
    work = watch.at_work()
    work.__enter__()
    for image in images:
        watch.image(*image)
    return Watch(run, block)


def test_a_block_is_done_carefully_after_it_has_ended_a_process(run: str) -> None:
    assert not Watch(run, "a").is_careful
    watch = died(run, "a")
    assert watch.is_careful and watch.blamed == {}
    assert Watch(run, "a").is_careful and not Watch(run, "b").is_careful


def test_a_block_that_was_not_at_work_is_no_suspect(run: str) -> None:
    watch = Watch(run, "a")
    with watch.at_work():
        pass
    for _ in range(2 * blame.MOST_UNEXPLAINED):
        assert not Watch(run, "a").is_careful


def test_the_image_that_ends_two_processes_is_to_blame(run: str) -> None:
    died(run, "a")
    assert died(run, "a", ("0", "read")).blamed == {}  # may have been chance
    assert died(run, "a", ("0", "decode"), ("1", "score")).blamed == {}
    assert died(run, "a", ("1", "decode"), ("1", "score")).blamed == {"1": "score"}


def test_what_is_done_is_forgotten(run: str) -> None:
    died(run, "a", ("0", "read")).end()
    assert not Watch(run, "a").is_careful


def test_a_block_that_ends_processes_without_an_image_at_work_ends_the_job(run: str) -> None:
    for _ in range(blame.MOST_UNEXPLAINED - 1):
        died(run, "a")
    with pytest.raises(JobError, match="block a has ended 4 processes"):
        died(run, "a")


def test_too_many_images_to_blame_end_the_job(run: str) -> None:
    with pytest.raises(JobError, match="9 images of block a have each ended 2 processes"):
        for number in range(2 * (blame.MOST_BLAMED + 2)):
            died(run, "a", (str(number // 2), "noise"))
