"""The driver's cost is measured with actors that take the time of their share, and what is asked is checked."""

import pytest

from imagewizard.benchmarks import driver
from imagewizard.benchmarks.driver import Load


def test_actors_together_do_the_rate_that_is_offered() -> None:
    load = Load(actors=32, rate=20_000.0, blocks=1000, block_rows=1000)
    assert load.seconds_per_block * load.rate == load.actors * load.block_rows


def test_too_few_blocks_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        driver.main(["--blocks", "100"])
    assert ended.value.code == 2 and "give 384 at least" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_the_rate_is_kept_up_with() -> None:
    """Two actors of ten blocks a second: what they do is counted, and no more."""
    cost = driver.measure(Load(actors=2, rate=2_000.0, blocks=60, block_rows=100))
    assert 500 < cost.images_per_second < 2_200
    blocks_a_second = cost.images_per_second / 100
    assert cost.share_of_a_core == pytest.approx(cost.milliseconds_per_block * blocks_a_second / 1000)
    assert cost.milliseconds_per_block > 0
