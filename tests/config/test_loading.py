"""Configs: YAML and overrides in, a checked model out, or one line that names the key and the fix."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from imagewizard.config.denoise import DenoiseConfig, DenoiseSection, ImagesSection
from imagewizard.config.loading import Section, check, load, split_words
from imagewizard.config.noise import GaussianNoise
from imagewizard.config.train import TrainConfig
from imagewizard.errors import UserError

DENOISE = {"input": "photos", "output": "run"}
TRAIN = {
    "output": "run",
    "network": {"in_channels": 3},
    "data": {"train": "a", "validation": "b"},
    "optimizer": {"epochs": 1},
}


class Anything(Section):
    key: Any


class Fixed(Section):
    kind: Literal["fixed"]
    sigma: float = 25.0


class Scaled(Section):
    kind: Literal["scaled"]
    peak: Annotated[float, Field(gt=0)] = 30.0


class Kinds(Section):
    """A union of sections, selected by `kind`."""

    noise: Annotated[Fixed | Scaled, Field(discriminator="kind")] | None = None


def complaint(model: type[Section], data: dict) -> str:
    with pytest.raises(UserError) as error:
        check(model, data)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- reading


def test_words_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("input: photos\noutput: run\ndenoise: {steps: 3, lambda: 0.25}\nnoise:\n  sigma: [15, 25]\n")
    job = load(DenoiseConfig, str(path), [])
    assert (job.denoise.steps, job.denoise.blend_lambda) == (3, 0.25)
    assert job.noise == GaussianNoise(sigma=[15.0, 25.0])
    changed = load(DenoiseConfig, str(path), ["denoise.steps=5", "noise.sigma=50", "denoise.steps=6", "input=other"])
    assert changed.denoise.steps == 6  # the last word wins
    assert changed.denoise.blend_lambda == 0.25  # other keys of the file stay
    assert changed.noise == GaussianNoise(sigma=[50.0])
    assert changed.input == "other"


def test_words_without_a_file_and_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    for path in (None, str(tmp_path / "empty.yaml")):
        assert load(DenoiseSection, path, []) == DenoiseSection()
        job = load(DenoiseConfig, path, ["input=photos", "output=run", "images.format=jpg"])
        assert job.images == ImagesSection(format="jpg")  # a section that is null by default


def test_words_hold_yaml_values() -> None:
    values = {
        "3": 3, "3.5": 3.5, "1e-4": 1e-4, "-2E5": -2e5, "1.5e3": 1500.0, "1.0e-4": 1e-4, "true": True, "null": None,
        "": None, "[1, two, 3e0]": [1, "two", 3.0], "{a: 1}": {"a": 1},
        "4:2:2": "4:2:2", "[4:4:4]": ["4:4:4"], "1:30.5": "1:30.5", "plain text": "plain text", "'3'": "3",
        "a=b": "a=b", "s3://bucket/a.b": "s3://bucket/a.b", "1e": "1e", "e5": "e5", "2024e": "2024e",
    }  # fmt: skip
    for text, value in values.items():
        read = load(Anything, None, [f"key={text}"]).key
        assert read == value and type(read) is type(value), text


@pytest.mark.parametrize(
    "text",
    ["run #2", "2024", "2024-01-02", "1e5", "yes", "~", "a: b", "'quoted'", '"', "[x", "{a}", "[1].jpg", "- a", "*a",
     "!!str a", "a=b", " a "],
)  # fmt: skip
def test_a_word_for_a_key_of_text_is_the_text_as_typed(text: str) -> None:
    job = load(DenoiseConfig, None, [f"input={text}", f"output={text}", f"model={text}", f"resources.address={text}"])
    assert [job.input, job.output, job.model, job.resources.address] == [text] * 4


def test_null_and_lists_for_keys_of_text() -> None:
    words = ["input=[a, 2024, yes, 'b c']", "output=null", "resources.address=null", "submit.env=[A, NO]"]
    job = load(DenoiseConfig, None, words)
    assert job.input == ["a", "2024", "yes", "b c"]
    assert job.output == "null"  # may not be null
    assert job.resources.address is None
    assert job.submit.env == ["A", "NO"]
    with pytest.raises(UserError, match=r"^output: must be a valid string \(got None\)$"):
        load(DenoiseConfig, None, ["input=a", "output="])


def test_null_removes_a_section_and_a_key_restores_it(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("noise: {kind: scaled, peak: 4}\n")
    assert load(Kinds, str(tmp_path / "job.yaml"), ["noise=null"]).noise is None
    again = load(Kinds, str(tmp_path / "job.yaml"), ["noise=null", "noise.kind=scaled"])
    assert again.noise == Scaled(kind="scaled")


def test_config_is_fixed_once_checked() -> None:
    with pytest.raises(ValueError, match="frozen"):
        DenoiseSection().mode = "ddim"  # type: ignore[misc]


def test_wrong_words_are_refused() -> None:
    for word in ("sigma", "=3", ".a=3", "a..b=3", "a.=3"):
        with pytest.raises(UserError, match=r"is no key=value; write it as e.g. noise.sigma=25"):
            load(Anything, None, [word])
    for word in ("mode=[1", "mode={", "mode='", "mode=a: b: c", "mode=!!python/object:os.system {}"):
        with pytest.raises(UserError, match=r"^mode: .* is no YAML value; quote it if it is text$"):
            load(Anything, None, [word])


def test_files_other_than_configs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    for content, reason in {
        b"a: [1\nb: 2": "cannot be read as YAML: ",
        b"a: 1\n\tb: 2": "cannot be read as YAML: ",
        b"a: \xff\xfe": "cannot be read as YAML: ",
        b"- a\n- b": "holds a list; write keys and values",
        b"just text": "holds a str; write keys and values",
    }.items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"^config {path}: {reason}[^\n]*$"):
            load(Anything, str(path), [])
    with pytest.raises(UserError, match=f"^config {tmp_path}/none.yaml: no such file; check its path$"):
        load(Anything, f"{tmp_path}/none.yaml", [])
    with pytest.raises(UserError, match=f"^{tmp_path} is a folder, not a config; write input={tmp_path}"):
        load(Anything, str(tmp_path), [])


def test_words_of_a_command() -> None:
    assert split_words([]) == (None, [])
    assert split_words(["a=1", "configs/x.yaml", "b.c=d"]) == ("configs/x.yaml", ["a=1", "b.c=d"])
    with pytest.raises(UserError, match=r"'two.yaml' is a second config"):
        split_words(["one.yaml", "two.yaml"])


# --- complaints


@pytest.mark.parametrize(
    ("change", "line"),
    [
        # unknown keys
        ({"imput": 1}, "imput: unknown key; did you mean input?"),
        ({"denoise": {"step": 1}}, "denoise.step: unknown key; did you mean steps?"),
        ({"denoise": {"lamda": 1}}, "denoise.lamda: unknown key; did you mean lambda?"),
        ({"images": {"formt": "png"}}, "images.formt: unknown key; did you mean format?"),  # a section or null
        ({"images": {"xyz": 1}}, "images.xyz: unknown key; known keys: format, quality, pack"),
        ({"denoise": {"steps ": 1}}, "denoise.steps : unknown key; did you mean steps?"),
        # wrong types
        ({"denoise": {"steps": "x"}}, "denoise.steps: must be a valid integer (got 'x')"),
        (
            {"denoise": {"steps": 1.5}},
            "denoise.steps: must be a valid integer, got a number with a fractional part (got 1.5)",
        ),
        ({"denoise": {"steps": None}}, "denoise.steps: must be a valid integer (got None)"),
        ({"denoise": 3}, "denoise: must be a section of keys and values (got 3); write denoise.NAME=value"),
        ({"denoise": None}, "denoise: must be a section of keys and values (got None); write denoise.NAME=value"),
        ({"images": [1]}, "images: must be a section of keys and values (got [1]); write images.NAME=value"),
        (
            {"resources": {"actors": "x"}},
            "resources.actors: must be a valid integer or a valid list or 'auto' (got 'x')",
        ),
        (
            {"resources": {"actors": [4, 1]}},
            "resources.actors: must be a number or [least, greatest] with 1 <= least <= greatest (got [4, 1])",
        ),
        (
            {"resources": {"actors": None}},
            "resources.actors: must be a valid integer or a valid list or 'auto' (got None)",
        ),
        ({"input": 3}, "input: must be a valid string or a valid list (got 3)"),
        ({"input": ["a", 3]}, "input.1: must be a valid string (got 3)"),
        ({"noise": {"sigma": [1, "b"]}}, "noise.sigma.1: must be a valid number (got 'b')"),
        ({"denoise": {"mode": "mms"}}, "denoise.mode: must be 'mmse', 'ddim' or 'blend' (got 'mms')"),
        ({"retry_failed": "maybe"}, "retry_failed: must be a valid boolean (got 'maybe')"),
        ({"output": 3}, "output: must be a valid string (got 3)"),
        ({3: 4}, "3: keys should be strings (got 3)"),
        # impossible values
        ({"denoise": {"steps": 0}}, "denoise.steps: must be greater than or equal to 1 (got 0)"),
        ({"denoise": {"lambda": 1.5}}, "denoise.lambda: must be less than or equal to 1 (got 1.5)"),
        (
            {"resources": {"actors": 0}},
            "resources.actors: must be greater than or equal to 1 or a valid list or 'auto' (got 0)",
        ),
        ({"images": {"quality": 101}}, "images.quality: must be less than or equal to 100 (got 101)"),
        ({"images": {"format": "PNG"}}, "images.format: must be 'png', 'jpg', 'webp' or 'tiff' (got 'PNG')"),
        (
            {"noise": {"sigma": []}},
            "noise.sigma: must be one or more different values, as 25 or [15, 25, 50] (got [])",
        ),
        (
            {"denoise": {"sigma": 5}},
            "denoise.sigma is for images that are noisy already; set noise=null, or use noise.sigma",
        ),
        # the first of several
        ({"denoise": {"steps": 0, "lambda": 7}}, "denoise.steps: must be greater than or equal to 1 (got 0)"),
    ],
    ids=str,
)
def test_complaints_about_a_bulk_job(change: dict, line: str) -> None:
    assert complaint(DenoiseConfig, DENOISE | change) == line


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"network": "x"}, "network: must be a section of keys and values (got 'x'); write network.NAME=value"),
        ({"sigma": 3}, "sigma: must be a valid list (got 3)"),
        ({"sigma": [3]}, "sigma.1: is missing (got [3])"),
        (
            {"optimizer": {"batch_size": 4}},
            "optimizer.epochs: is required; give it in the config or as optimizer.epochs=…",
        ),
        ({"loss": {"perceptual": {"wait": 1}}}, "loss.perceptual.wait: unknown key; did you mean weight?"),
        (
            {"resources": {"workers": [4, 1]}},
            "resources.workers: must be a number or [least, greatest] with",
        ),
        ({"model": "embedded"}, "give either model (to start from its weights) or network (to start with random ones)"),
    ],
    ids=str,
)
def test_complaints_about_a_training(change: dict, line: str) -> None:
    assert complaint(TrainConfig, TRAIN | change).startswith(line)


@pytest.mark.parametrize(
    ("noise", "line"),
    [
        ({"kind": "fixed", "sgma": 1}, "noise.sgma: unknown key; did you mean sigma?"),
        ({"kind": "fixed", "peak": 1}, "noise.peak: unknown key; noise.kind=scaled has it, this kind has: sigma"),
        ({"kind": "fixed", "sigma": "x"}, "noise.sigma: must be a valid number (got 'x')"),
        ({"kind": "scaled", "peak": 0}, "noise.peak: must be greater than 0 (got 0)"),
        ({"kind": "salt"}, "noise.kind: must be 'fixed' or 'scaled' (got 'salt')"),
        ({"kind": None}, "noise.kind: must be 'fixed' or 'scaled' (got 'None')"),
        *[(noise, "noise: ") for noise in ({}, 3, [1])],
    ],
    ids=str,
)
def test_complaints_about_a_section_with_several_kinds(noise: object, line: str) -> None:
    assert complaint(Kinds, {"noise": noise}).startswith(line)


def test_missing_keys() -> None:
    assert complaint(DenoiseConfig, {"output": "run"}) == "input: is required; give it in the config or as input=…"


def test_long_values_are_cut_short() -> None:
    line = complaint(DenoiseSection, {"steps": list(range(1000))})
    assert line.startswith("steps: ") and len(line) < 200
