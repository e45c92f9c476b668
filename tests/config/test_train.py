"""The config of `imagewizard train`: its defaults, the files in configs/, how batches are spread, what it refuses."""

from pathlib import Path
from typing import Any

import pytest

from imagewizard.config.loading import check, load
from imagewizard.config.train import RESULT_KEYS, TrainConfig, TrainTask
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.errors import UserError
from tests.support.models import LINEAR

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LEAST = [
    "output=run",
    "data.train=photos",
    "data.validation=others",
    "optimizer.epochs=10",
    "network={in_channels: 12, out_channels: 12}",
]


def least(*words: str) -> TrainConfig:
    return load(TrainConfig, None, [*LEAST, *words])


def refusal(*words: str) -> str:
    with pytest.raises(UserError) as error:
        least(*words)
    return str(error.value)


def test_minimal_config_has_the_documented_defaults() -> None:
    config = least()
    assert (config.sigma, config.draw, config.loss.mse, config.loss.perceptual) == ((2.0, 60.0), "sigma", "eps", None)
    assert (config.data.crop, config.data.small, config.precision) == (96, "pad", "bf16")
    optimizer = config.optimizer
    assert (optimizer.batch_size, config.resources.micro_batch_size, optimizer.learning_rate) == (16, "auto", 1e-3)
    assert (config.resources.workers, config.validation.sigma) == ("auto", [15.0, 25.0, 50.0])
    schedule = config.schedule
    assert (schedule.beta_schedule, schedule.beta_start, schedule.beta_end) == ("linear", 1e-4, 0.02)
    assert schedule.num_train_timesteps == 1000
    assert least("loss.perceptual={}").loss.perceptual.weight == 0.1  # type: ignore[union-attr]


def test_config_survives_being_dumped() -> None:
    config = least("sigma=[5,50]", "resources.workers=[1,4]", "loss.perceptual.layers=[relu1_1]")
    assert TrainConfig.model_validate(config.model_dump()) == config
    assert check(TrainConfig, config.model_dump(mode="json", by_alias=True)) == config


def test_result_keys_are_keys() -> None:
    for key in RESULT_KEYS:
        section: Any = least().model_dump(by_alias=True)
        for part in key.split("."):
            section = section[part]  # KeyError for a key that no config has


# --- the files in configs/


def test_recipe_of_the_embedded_model() -> None:
    config = load(TrainConfig, str(CONFIGS / "embedded.yaml"), ["output=elsewhere", "optimizer.learning_rate=3e-4"])
    assert (config.output, config.optimizer.learning_rate) == ("elsewhere", 3e-4)
    assert config.model is None and config.network is not None
    assert config.network["in_channels"] == config.network["out_channels"]
    assert (config.loss.mse, config.loss.perceptual) == ("eps", None)


def test_recipe_of_the_fine_tuning() -> None:
    """The published values, and those in the file's comments."""
    config = load(TrainConfig, str(CONFIGS / "finetune-celebahq.yaml"), [])
    assert (config.model, config.network) == ("google/ddpm-celebahq-256", None)
    assert config.loss.mse == "x0" and config.loss.perceptual is not None
    assert (config.loss.perceptual.weight, config.loss.perceptual.weights) == (0.1, "torchvision")
    assert config.loss.perceptual.layers == ["relu1_2", "relu2_2", "relu3_1"]
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.epochs, optimizer.weight_decay) == (1e-5, 20, 0.01)
    assert (config.validation.mode, config.validation.steps, config.draw) == ("ddim", 5, "timestep")
    assert config.data.train.endswith("/finetune.parquet")  # type: ignore[union-attr]
    assert config.data.validation.endswith("/val.parquet")  # type: ignore[union-attr]
    assert config.steps(400) == 1000  # 50 batches an epoch
    assert optimizer.warmup_steps == 50
    schedule = NoiseSchedule.from_config(LINEAR)
    assert [round(schedule.timestep(sigma)) for sigma in config.sigma] == [8, 136]
    assert ((schedule.alphas_cumprod[0] ** -1 - 1), (schedule.alphas_cumprod[999] ** -1 - 1)) == (
        pytest.approx(1e-4, rel=0.01),
        pytest.approx(24_777, abs=1),
    )


# --- splitting a batch


@pytest.mark.parametrize(
    ("batch", "workers", "size"),
    [(16, 1, 16), (16, 2, 8), (16, 3, 4), (16, 16, 1), (6, 4, 1), (6, 2, 3), (7, 2, 1), (12, 5, 2), (1, 1, 1)],
)
def test_automatic_micro_batch_divides_the_batch_with_one_for_each_worker(batch: int, workers: int, size: int) -> None:
    config = least(f"optimizer.batch_size={batch}", f"resources.workers={workers}")
    assert config.micro_batch_size(config.most_workers) == size


def test_configured_micro_batch_is_used() -> None:
    config = least("resources.micro_batch_size=2", "resources.workers=4")
    assert [config.micro_batch_size(workers) for workers in (1, 4, 8)] == [2, 2, 2]
    assert TrainTask(config, images=10, validation=[], micro_batch_size=2, threads=1).rows_per_step == 8


@pytest.mark.parametrize(("workers", "most"), [("auto", 1), ("3", 3), ("[2,5]", 5), ("[4,4]", 4)])
def test_greatest_number_of_workers(workers: str, most: int) -> None:
    assert least(f"resources.workers={workers}").most_workers == most


@pytest.mark.parametrize(
    ("epochs", "images", "steps"), [(10, 16, 10), (10, 17, 11), (0.5, 64, 2), (0.01, 16, 1), (20, 300, 375)]
)
def test_steps_are_those_of_the_epochs_rounded_up(epochs: float, images: int, steps: int) -> None:
    config = least(f"optimizer.epochs={epochs}")
    assert config.steps(images) == steps
    assert TrainTask(config, images, validation=[], micro_batch_size=16, threads=1).steps == steps


# --- refusals


@pytest.mark.parametrize("missing", ["output", "optimizer.epochs"])
def test_required_keys(missing: str) -> None:
    words = [word for word in LEAST if not word.startswith(missing + "=")]
    key = "optimizer" if missing == "optimizer.epochs" else missing  # the section goes with its only key
    with pytest.raises(UserError, match=rf"^{key}: is required; give it in the config or as {key}=…$"):
        load(TrainConfig, None, words)


START = "give either model (to start from its weights) or network (to start with random ones)"
RANGE = "must be [least, greatest] with 0 < least <= greatest"
WORKERS = "resources.workers: must be a number or [least, greatest] with 1 <= least <= greatest"


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("data.crop=20", "data.crop: must be a multiple of 8 (got 20)"),
        ("data.crop=8", "data.crop: must be greater than or equal to 16 (got 8)"),
        ("data.corp=96", "data.corp: unknown key; did you mean crop?"),
        ("data.small=grow", "data.small: must be 'pad' or 'skip' (got 'grow')"),
        ("optimizer.epoch=3", "optimizer.epoch: unknown key; did you mean epochs?"),
        ("optimizer.epochs=0", "optimizer.epochs: must be greater than 0 (got 0)"),
        ("optimizer.epochs=.inf", "optimizer.epochs: must be a finite number (got inf)"),
        ("optimizer.batch_size=0", "optimizer.batch_size: must be greater than or equal to 1 (got 0)"),
        ("resources.micro_batch_size=5", "resources.micro_batch_size: 5 does not divide the batch_size of 16"),
        (
            "resources.micro_batch_size=many",
            "resources.micro_batch_size: must be a valid integer or 'auto' (got 'many')",
        ),
        ("optimizer.learning_rate=0", "optimizer.learning_rate: must be greater than 0 (got 0)"),
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate: must be a finite number (got nan)"),
        ("optimizer.ema_decay=1", "optimizer.ema_decay: must be less than 1 (got 1)"),
        ("schedule.beta_strat=3", "schedule.beta_strat: unknown key; did you mean beta_start?"),
        ("schedule.beta_end=2", "schedule.beta_end: must be less than 1 (got 2)"),
        ("sigma=[60,2]", f"sigma: {RANGE} (got [60.0, 2.0])"),
        ("sigma=[0,2]", f"sigma: {RANGE} (got [0.0, 2.0])"),
        ("sigma=25", "sigma: must be a valid list (got 25)"),
        ("seed=-1", "seed: must be greater than or equal to 0 (got -1)"),
        ("network=tiny", "network: must be a section of keys and values (got 'tiny'); write network.NAME=value"),
        ("network=null", START),
        ("model=embedded", START),
        ("loss.mse=l1", "loss.mse: must be 'eps' or 'x0' (got 'l1')"),
        (
            "loss.perceptual=0.1",
            "loss.perceptual: must be a section of keys and values (got 0.1); write loss.perceptual.NAME=value",
        ),
        ("loss.perceptual.weight=0", "loss.perceptual.weight: must be greater than 0 (got 0)"),
        ("precision=fp16", "precision: must be 'bf16' or 'fp32' (got 'fp16')"),
        ("validation.sigma=[2000]", "validation.sigma.0: must be less than or equal to 1000 (got 2000)"),
        (
            "validation.sigma=[25,25.0]",
            "validation.sigma: must be one or more different values, as 25 or [15, 25, 50] (got [25.0, 25.0])",
        ),
        ("checkpoints.keep=0", "checkpoints.keep: must be greater than or equal to 1 (got 0)"),
        ("resources.workers=[3,2]", f"{WORKERS} (got [3, 2])"),
        ("resources.workers=[0,2]", f"{WORKERS} (got [0, 2])"),
        ("resources.gpus_per_worker=2", "resources.gpus_per_worker: must be less than or equal to 1 or 'auto' (got 2)"),
    ],
)
def test_impossible_values_are_refused(word: str, line: str) -> None:
    assert refusal(word) == line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["resources.workers=17"],
            "optimizer.batch_size: 16 in micro-batches of 1 are 16 pieces of work for 17 workers",
        ),
        (
            ["resources.micro_batch_size=8", "resources.workers=[1,4]"],
            "optimizer.batch_size: 16 in micro-batches of 8 are 2 pieces of work for 4 workers",
        ),
    ],
)
def test_batch_with_fewer_pieces_than_workers_is_refused(words: list[Any], line: str) -> None:
    assert refusal(*words) == f"{line}; raise it, or lower micro_batch_size or resources.workers"
