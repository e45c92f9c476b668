"""Configs: YAML and overrides in, a checked model out, or one line that names the key and the fix."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, field_validator, model_validator

from imagewizard.config.denoise import DenoiseConfig
from imagewizard.config.loading import Section, check, load, split_words
from imagewizard.errors import UserError


class Leaf(Section):
    depth: Annotated[int, Field(ge=1, le=9)] = 1
    share: Annotated[float, Field(alias="lambda", ge=0, le=1)] = 0.5

    @field_validator("depth")
    @classmethod
    def _lucky(cls, depth: int) -> int:
        if depth == 4:
            raise ValueError(f"must not be four (got {depth})")
        return depth


class Gaussian(Section):
    kind: Literal["gaussian"]
    sigma: float | list[float] = 25.0


class Poisson(Section):
    kind: Literal["poisson"]
    peak: Annotated[float, Field(gt=0)] = 30.0
    leaf: Leaf = Leaf()


class Root(Section):
    required: str = "given"
    leaf: Leaf = Leaf()
    optional: Leaf | None = None
    noise: Annotated[Gaussian | Poisson, Field(discriminator="kind")] | None = None
    leaves: list[Leaf] = []
    by_name: dict[str, Leaf] = {}
    anything: dict[str, Any] = {}
    count: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    inputs: str | list[str] = "photos"
    mode: Literal["mmse", "ddim"] = "mmse"
    between: tuple[float, float] = (1.0, 2.0)
    switch: bool = False

    @model_validator(mode="after")
    def _together(self) -> "Root":
        if self.switch and self.count == 13:
            raise ValueError("count: 13 and switch do not go together")
        return self


class Strict(Section):
    required: str
    inner: Gaussian


def complaint(data: dict, model: type[Section] = Root) -> str:
    with pytest.raises(UserError) as error:
        check(model, data)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- reading


def test_file_then_words_on_top(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("leaf: {depth: 3, lambda: 0.25}\nmode: ddim\nnoise:\n  kind: gaussian\n  sigma: [15, 25]\n")
    root = load(Root, str(path), [])
    assert (root.leaf.depth, root.leaf.share, root.mode) == (3, 0.25, "ddim")
    assert root.noise == Gaussian(kind="gaussian", sigma=[15.0, 25.0])

    changed = load(Root, str(path), ["leaf.depth=5", "noise.sigma=50", "leaf.depth=6", "required=other"])
    assert changed.leaf.depth == 6  # the last word wins
    assert changed.leaf.share == 0.25  # what stands beside it in the file stays
    assert changed.noise == Gaussian(kind="gaussian", sigma=50.0)
    assert changed.required == "other"


def test_words_without_a_file() -> None:
    assert load(Root, None, []) == Root()
    assert load(Root, None, ["optional.depth=2"]).optional == Leaf(depth=2)
    assert load(Root, None, ["by_name.a.depth=2", "by_name.b.depth=3"]).by_name["b"].depth == 3


def test_empty_file_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert load(Root, str(tmp_path / "empty.yaml"), []) == Root()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3.5", 3.5),
        ("1e-4", 1e-4),
        ("-2E5", -2e5),
        ("1.5e3", 1500.0),
        ("1.0e-4", 1e-4),
        ("true", True),
        ("null", None),
        ("", None),
        ("[1, two, 3e0]", [1, "two", 3.0]),
        ("{a: 1}", {"a": 1}),
        ("plain text", "plain text"),
        ("'3'", "3"),
        ("a=b", "a=b"),
        ("s3://bucket/a.b", "s3://bucket/a.b"),
        ("1e", "1e"),
        ("e5", "e5"),
        ("2024e", "2024e"),
    ],
)
def test_words_hold_yaml_values(text: str, value: object) -> None:
    read = load(Root, None, [f"anything.key={text}"]).anything["key"]
    assert read == value and type(read) is type(value)


def test_null_takes_a_section_away_and_a_key_brings_it_back(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("noise: {kind: poisson, peak: 4}\n")
    assert load(Root, str(tmp_path / "job.yaml"), ["noise=null"]).noise is None
    again = load(Root, str(tmp_path / "job.yaml"), ["noise=null", "noise.kind=poisson"])
    assert again.noise == Poisson(kind="poisson")


def test_config_is_fixed_once_checked() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Root().mode = "ddim"  # type: ignore[misc]


@pytest.mark.parametrize("word", ["sigma", "=3", ".a=3", "a..b=3", "a.=3"])
def test_words_that_are_none(word: str) -> None:
    with pytest.raises(UserError, match=r"is no key=value; write it as e.g. noise.sigma=25"):
        load(Root, None, [word])


@pytest.mark.parametrize("word", ["mode=[1", "mode={", "mode='", "mode=a: b: c", "mode=!!python/object:os.system {}"])
def test_values_that_are_no_yaml(word: str) -> None:
    with pytest.raises(UserError, match=r"^mode: .* is no YAML value[^\n]*$"):
        load(Root, None, [word])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a: [1\nb: 2", "cannot be read as YAML"),
        (b"a: 1\n\tb: 2", "cannot be read as YAML"),
        (b"a: \xff\xfe", "cannot be read as YAML"),
        (b"- a\n- b", "must hold keys and values.* not a list"),
        (b"just text", "must hold keys and values.* not a str"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^config {path}: {reason}[^\n]*$"):
        load(Root, str(path), [])


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^config {tmp_path}/none.yaml: no such file$"):
        load(Root, f"{tmp_path}/none.yaml", [])
    with pytest.raises(UserError, match=f"^config {tmp_path}: cannot be read"):
        load(Root, str(tmp_path), [])


def test_words_of_a_command() -> None:
    assert split_words([]) == (None, [])
    assert split_words(["a=1", "configs/x.yaml", "b.c=d"]) == ("configs/x.yaml", ["a=1", "b.c=d"])
    with pytest.raises(UserError, match=r"'two.yaml' is a second config"):
        split_words(["one.yaml", "two.yaml"])


# --- complaints


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"mod": 1}, "mod: unknown key; did you mean mode?"),
        ({"leaf": {"dept": 1}}, "leaf.dept: unknown key; did you mean depth?"),
        ({"leaf": {"lamda": 1}}, "leaf.lamda: unknown key; did you mean lambda?"),
        ({"optional": {"dept": 1}}, "optional.dept: unknown key; did you mean depth?"),
        ({"leaves": [{}, {"dept": 1}]}, "leaves.1.dept: unknown key; did you mean depth?"),
        ({"by_name": {"a b": {"dept": 1}}}, "by_name.a b.dept: unknown key; did you mean depth?"),
        ({"noise": {"kind": "gaussian", "sgma": 1}}, "noise.sgma: unknown key; did you mean sigma?"),
        ({"noise": {"kind": "poisson", "leaf": {"dept": 1}}}, "noise.leaf.dept: unknown key; did you mean depth?"),
        ({"leaf": {"xyz": 1}}, "leaf.xyz: unknown key; known keys: depth, lambda"),
        ({"leaf": {"depth ": 1}}, "leaf.depth : unknown key; did you mean depth?"),
    ],
)
def test_unknown_keys(data: dict, line: str) -> None:
    assert complaint(data) == line


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"leaf": {"depth": "deep"}}, "leaf.depth: must be a valid integer (got 'deep')"),
        (
            {"leaf": {"depth": 1.5}},
            "leaf.depth: must be a valid integer, got a number with a fractional part (got 1.5)",
        ),
        ({"leaf": {"depth": None}}, "leaf.depth: must be a valid integer (got None)"),
        ({"leaf": 3}, "leaf: must be a section of keys and values (got 3)"),
        ({"leaf": None}, "leaf: must be a section of keys and values (got None)"),
        ({"optional": [1]}, "optional: must be a section of keys and values (got [1])"),
        ({"anything": "x"}, "anything: must be a section of keys and values (got 'x')"),
        ({"leaves": [{"depth": 1}, 3]}, "leaves.1: must be a section of keys and values (got 3)"),
        ({"by_name": {"a": {"depth": "x"}}}, "by_name.a.depth: must be a valid integer (got 'x')"),
        ({"count": "many"}, "count: must be a valid integer or 'auto' (got 'many')"),
        ({"count": None}, "count: must be a valid integer or 'auto' (got None)"),
        ({"inputs": 3}, "inputs: must be a valid string or a valid list (got 3)"),
        ({"inputs": ["a", 3]}, "inputs.1: must be a valid string (got 3)"),
        (
            {"noise": {"kind": "gaussian", "sigma": "x"}},
            "noise.sigma: must be a valid number or a valid list (got 'x')",
        ),
        ({"noise": {"kind": "gaussian", "sigma": [1, "b"]}}, "noise.sigma.1: must be a valid number (got 'b')"),
        ({"mode": "mms"}, "mode: must be 'mmse' or 'ddim' (got 'mms')"),
        ({"switch": "maybe"}, "switch: must be a valid boolean (got 'maybe')"),
        ({"between": 3}, "between: must be a valid list (got 3)"),
        ({"between": [3]}, "between.1: is missing (got [3])"),
        ({"required": 3}, "required: must be a valid string (got 3)"),
        ({3: 4}, "3: keys should be strings (got 3)"),
    ],
    ids=str,
)
def test_wrong_types(data: dict, line: str) -> None:
    assert complaint(data) == line


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"leaf": {"depth": 0}}, "leaf.depth: must be greater than or equal to 1 (got 0)"),
        ({"leaf": {"lambda": 1.5}}, "leaf.lambda: must be less than or equal to 1 (got 1.5)"),
        ({"count": 0}, "count: must be greater than or equal to 1 or 'auto' (got 0)"),
        ({"noise": {"kind": "poisson", "peak": 0}}, "noise.peak: must be greater than 0 (got 0)"),
        ({"leaf": {"depth": 4}}, "leaf.depth: must not be four (got 4)"),
        ({"switch": True, "count": 13}, "count: 13 and switch do not go together"),
    ],
    ids=str,
)
def test_impossible_values(data: dict, line: str) -> None:
    assert complaint(data) == line


def test_missing_keys() -> None:
    assert complaint({}, Strict) == "required: is required; give it in the config or as required=…"
    line = complaint({"required": "x", "inner": {}}, Strict)
    assert line == "inner.kind: is required; give it in the config or as inner.kind=…"


@pytest.mark.parametrize("noise", [{}, {"kind": "salt"}, {"kind": None}, 3, [1]])
def test_union_that_no_branch_fits(noise: object) -> None:
    assert complaint({"noise": noise}).startswith("noise: ")


def test_long_values_are_cut_short() -> None:
    line = complaint({"leaf": {"depth": list(range(1000))}})
    assert line.startswith("leaf.depth: ") and len(line) < 200


def test_first_complaint_comes_first() -> None:
    assert complaint({"leaf": {"depth": 0, "lambda": 7}, "mode": "x"}).startswith("leaf.depth: ")


@pytest.mark.parametrize("word", ["images.format=bmp", "images.format=PNG", "images.quality=0", "images.quality=101"])
def test_settings_of_images_that_cannot_be(word: str) -> None:
    with pytest.raises(UserError, match=r"^images\.(format|quality): must be"):
        load(DenoiseConfig, None, ["input=in", "output=out", word])
