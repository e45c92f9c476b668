"""The config of `imagewizard train`: its defaults, the file in configs/, and what it refuses."""

from pathlib import Path

import pytest

from imagewizard.config import load
from imagewizard.errors import UserError
from imagewizard.train_config import TrainConfig

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LEAST = [
    "output=run",
    "data.train=photos",
    "data.validation=others",
    "optimizer.steps=10",
    "network={in_channels: 12, out_channels: 12}",
]


def test_least_config_has_the_documented_defaults() -> None:
    config = load(TrainConfig, None, LEAST)
    assert config.sigma == (2.0, 60.0)
    assert config.data.crop == 96
    assert config.optimizer.learning_rate == 1e-3
    schedule = config.schedule
    assert (schedule.beta_schedule, schedule.beta_start, schedule.beta_end) == ("linear", 1e-4, 0.02)
    assert schedule.num_train_timesteps == 1000


def test_recipe_of_the_embedded_model_is_valid() -> None:
    config = load(TrainConfig, str(CONFIGS / "embedded.yaml"), ["output=elsewhere", "optimizer.learning_rate=3e-4"])
    assert config.output == "elsewhere"
    assert config.optimizer.learning_rate == 3e-4
    assert config.network["in_channels"] == 12


def test_config_survives_being_dumped() -> None:
    config = load(TrainConfig, None, [*LEAST, "sigma=[5,50]"])
    assert TrainConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize("missing", ["output", "data.train", "data.validation", "optimizer.steps", "network"])
def test_required_keys(missing: str) -> None:
    words = [word for word in LEAST if not word.startswith(missing + "=")]
    key = "optimizer" if missing == "optimizer.steps" else missing  # the section goes with its only key
    with pytest.raises(UserError, match=rf"^{key}: is required; give it in the config or as {key}=…$"):
        load(TrainConfig, None, words)


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("data.crop=20", "data.crop: must be a multiple of 8 (got 20)"),
        ("data.crop=8", "data.crop: must be greater than or equal to 16 (got 8)"),
        ("data.corp=96", "data.corp: unknown key; did you mean crop?"),
        ("optimizer.step=3", "optimizer.step: unknown key; did you mean steps?"),
        ("optimizer.steps=0", "optimizer.steps: must be greater than or equal to 1 (got 0)"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate: must be greater than 0 (got 0)"),
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate: must be greater than 0 (got nan)"),
        ("optimizer.ema_decay=1", "optimizer.ema_decay: must be less than 1 (got 1)"),
        ("schedule.beta_strat=3", "schedule.beta_strat: unknown key; did you mean beta_start?"),
        ("schedule.beta_end=2", "schedule.beta_end: must be less than 1 (got 2)"),
        ("sigma=[60,2]", "sigma: must be [least, greatest] with 0 < least <= greatest (got [60.0, 2.0])"),
        ("sigma=[0,2]", "sigma: must be [least, greatest] with 0 < least <= greatest (got [0.0, 2.0])"),
        ("sigma=25", "sigma: must be a valid list (got 25)"),
        ("seed=-1", "seed: must be greater than or equal to 0 (got -1)"),
        ("network=tiny", "network: must be a section of keys and values (got 'tiny')"),
        (
            "network.in_channels=3",
            "network: in_channels and out_channels must be the same 3*k*k (3, 12, …; got (3, 12))",
        ),
        ("network={}", "network: in_channels and out_channels must be the same 3*k*k (3, 12, …; got (None, None))"),
        (
            "output=s3://bucket/run",
            "output: must be a local folder (got s3://bucket/run); copy the finished run to where you want it",
        ),
    ],
)
def test_values_that_cannot_be(word: str, line: str) -> None:
    with pytest.raises(UserError) as error:
        load(TrainConfig, None, [*LEAST, word])
    assert str(error.value) == line
