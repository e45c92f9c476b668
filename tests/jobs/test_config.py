"""imagewizard config: what it prints is a config, and the two reference configs hold every key with its default."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from imagewizard.config import Section, load
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.config.loading import sections_of
from imagewizard.config.train import TrainConfig
from jobs import config, shell

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MODELS: dict[str, type[Section]] = {
    "denoise": DenoiseConfig,
    "demo": DenoiseConfig,
    "train": TrainConfig,
    "embedded": TrainConfig,
    "finetune-celebahq": TrainConfig,
}


def test_the_packaged_configs_are_those_of_configs() -> None:
    assert config.examples() == {path.stem: path.read_text() for path in CONFIGS.glob("*.yaml")}


@pytest.mark.parametrize("name", sorted(config.examples()))
def test_what_is_printed_can_be_loaded(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run(config.main, [name]) == shell.DONE
    printed = capsys.readouterr().out
    assert printed.startswith("# ")
    (tmp_path / "my.yaml").write_text(printed)
    loaded = load(MODELS[name], str(tmp_path / "my.yaml"), ["input=photos"] if name == "demo" else [])
    assert isinstance(loaded, MODELS[name])


def test_denoise_yaml_holds_the_defaults() -> None:
    found = load(DenoiseConfig, str(CONFIGS / "denoise.yaml"), [])
    assert found == DenoiseConfig(input=found.input, output=found.output)


def test_train_yaml_holds_the_defaults() -> None:
    found = load(TrainConfig, str(CONFIGS / "train.yaml"), [])
    required = {
        "output": found.output,
        "model": found.model,
        "data": {"train": found.data.train, "validation": found.data.validation},
        "optimizer": {"epochs": found.optimizer.epochs},
    }
    assert found == TrainConfig.model_validate(required)


def _keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name
        for section in sections_of(field.annotation):
            yield from _keys(section)


@pytest.mark.parametrize(("name", "model"), [("denoise", DenoiseConfig), ("train", TrainConfig)])
def test_reference_configs_name_every_key(name: str, model: type[Section]) -> None:
    text = config.examples()[name]
    named = set(re.findall(r"^[# ]*([a-z_]+):", text, re.MULTILINE))
    assert set(_keys(model)) - named == set()


def test_an_unknown_name_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        config.main(["nonsense"])
    assert stop.value.code == shell.WRONG_INPUT
    assert "denoise" in capsys.readouterr().err
