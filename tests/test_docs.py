"""The pages in docs/ say what the code says."""

import json
import re
import tomllib
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa
import pytest
import yaml

from docs import embedded_model, generate, modes
from imagewizard.errors import UserError
from imagewizard.models import files as model_files
from imagewizard.schema import RESULT_SCHEMA
from tests.support import training_runs
from tests.support.models import tiny_model

ROOT = Path(__file__).resolve().parents[1]


def test_the_reference_of_config_keys_is_up_to_date() -> None:
    assert generate.PAGE.read_text() == generate.page(), "stale: run `make docs` and commit docs/configuration.md"


def test_every_config_key_has_a_meaning() -> None:
    rows = re.findall(r"^\| `([\w.]+)` .*\| *(.*) \|$", generate.page(), re.MULTILINE)
    assert len(rows) > 60
    assert [key for key, meaning in rows if not meaning] == []


def test_the_columns_are_those_of_a_row() -> None:
    text = (ROOT / "docs" / "columns.md").read_text()
    found = re.findall(r"^\| `(\w+)` \| ([\w ,]+) \|", text, re.MULTILINE)
    assert found == [(field.name, _type(field)) for field in RESULT_SCHEMA]


def _type(field: pa.Field) -> str:
    names = {"string": "text", "double": "float64", "timestamp[us, tz=UTC]": "timestamp"}
    name = names.get(str(field.type), str(field.type))
    return f"{name}, null" if field.nullable else name


PAGES = [path.relative_to(ROOT) for pattern in ("*.md", "docs/*.md", "cluster/*.md") for path in ROOT.glob(pattern)]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]*(?:#[^)\s]*)?)\)", (ROOT / page).read_text()):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        file = ROOT / (page.parent / name if name else page)
        assert file.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert heading in [_anchor(text) for text in headings], target


def _anchor(heading: str) -> str:
    """GitHub's: lower case, without punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_readme_names_every_package() -> None:
    tree = (ROOT / "README.md").read_text().partition("## Where things are")[2]
    named = re.findall(r"^  (\w+)/ ", tree, re.MULTILINE)
    packages = [path.parent.name for path in (ROOT / "imagewizard").glob("*/__init__.py")]
    assert sorted(named) == sorted(packages)


def test_the_layers_are_those_that_lint_checks() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    checked = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    block = (ROOT / "CONTRIBUTING.md").read_text().partition("## Layers")[2].split("```")[1]
    written = [re.split(r"  +", line)[0] for line in block.strip().splitlines()]
    assert written == [layer.replace(" | ", ", ") for layer in checked]


def test_the_card_of_the_embedded_model_says_what_its_history_says() -> None:
    card = embedded_model.CARD.read_text()
    figures = json.loads(embedded_model.HISTORY.read_text())
    assert embedded_model.renewed(card, figures) == card, "stale: run `python -m docs.embedded_model`"
    assert figures["stages"][-1]["cbsd68"][0] == figures["scores"]["cbsd68"]["15"]["psnr"]


def test_the_curve_of_the_embedded_model_is_that_of_its_history(tmp_path: Path) -> None:
    stages = json.loads(embedded_model.HISTORY.read_text())["stages"]
    committed = embedded_model.CURVE.read_text()
    if f"Matplotlib v{matplotlib.__version__}," not in committed:
        pytest.skip("another version of Matplotlib drew it")
    embedded_model.draw(stages, tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").read_text() == committed, "stale: run `python -m docs.embedded_model`"


def test_the_modes_have_a_table_and_a_plot(tmp_path: Path) -> None:
    """Of invented scores."""
    scores = {
        ("CBSD68", mode, level): np.array([psnr, 0.9, 0.5, seconds])
        for mode, psnr, seconds in (("noisy", 20.0, 0.0), ("mmse", 30.0, 2.5), ("ddim, 5 steps", 29.0, 12.0))
        for level in modes.LEVELS
    }
    lines = modes.table(scores).splitlines()
    assert lines[2] == "| CBSD68 | noisy | 20.00 / 0.9000 / 0.5000" + " | 20.00 / 0.9000 / 0.5000" * 2 + " |  |"
    assert lines[4].endswith("| 29.00 / 0.9000 / 0.5000 | 12.00 |") and len({line.count("|") for line in lines}) == 1
    modes.draw(scores, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert text.count("<!-- ddim, 5 steps -->") == 1 and "<!-- noisy -->" not in text


def finished_training(run: Path, start: str | None, psnrs: list[float], seed: int) -> str:
    """A finished training of batches of 16; returns its model's fingerprint."""
    training_runs.write_job(run)
    described = yaml.safe_load((run / "job.yaml").read_text()) | {"model_fingerprint": start}
    (run / "job.yaml").write_text(yaml.safe_dump(described))
    rows = [
        {"kind": "validation", "step": 100 * index, "seconds": 6.0, "time": 1e9 + 6 + 360 * index, "psnr": psnr}
        | {f"psnr_{sigma}": psnr for sigma in embedded_model.LEVELS}
        for index, psnr in enumerate(psnrs)
    ]
    training_runs.write_metrics(run, rows)
    (run / "summary.json").write_text('{"kind": "train"}')
    tiny_model(run / "model", seed=seed)
    return model_files.find(str(run / "model")).fingerprint


def test_a_new_stage_of_the_embedded_model_is_taken_from_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [{"validation": [{"hours": 1.0, "gigapixels": 1.0, "psnr": [30.0, 30.0, 30.0]}]}]
    first, second, leg = (str(tmp_path / name) for name in ("first", "second", "leg"))
    start = finished_training(tmp_path / "first", None, [20.0, 29.0], seed=1)
    finished_training(tmp_path / "second", start, [29.0, 30.0, 30.5], seed=2)
    finished_training(tmp_path / "leg", model_files.find("embedded").fingerprint, [30.0, 30.04], seed=3)
    costs = {leg + "/model": 100.0, second + "/model": 80.0, "embedded": 100.0}
    monkeypatch.setattr(embedded_model, "_cost", costs.__getitem__)
    made = embedded_model.stage([first, second], "two cores", before)
    assert (made["name"], made["hardware"]) == ("2: from random weights", "two cores")
    step = 16 * 96 * 96 * 100 / 1e9
    assert made["validation"] == [
        {
            "hours": pytest.approx(hours, abs=2e-3),
            "gigapixels": pytest.approx(count * step, abs=2e-3),
            "psnr": [psnr] * 3,
        }
        for hours, count, psnr in ((0.1017, 1, 29.0), (0.2033, 2, 30.0), (0.3033, 3, 30.5))
    ]
    for runs, line in (
        ([second], "started from another model; give the runs before it too"),
        ([leg], r"gained 0\.040 dB; train on, to 0\.05 dB"),
        ([first, str(tmp_path)], "is no finished training"),
    ):
        with pytest.raises(UserError, match=line):
            embedded_model.stage(runs, "two cores", before)
    costs[leg + "/model"] = 89.0  # a cheaper network need not gain
    assert embedded_model.stage([leg], "two cores", before)["name"] == "2: on from stage 1"
    finished_training(tmp_path / "leg", None, [20.0, 31.0, 30.9], seed=3)
    with pytest.raises(UserError, match="was better before its end"):
        embedded_model.stage([leg], "two cores", before)


def test_a_part_of_a_page_is_replaced_and_the_rest_kept() -> None:
    page = "a\n<!-- x -->\nold\n<!-- end -->\nb\n<!-- y -->\nother\n<!-- end -->\n"
    assert generate.with_part(page, "x", "new\nlines") == page.replace("old", "new\nlines")
    assert generate.with_part("<!-- x -->\n<!-- end -->", "x", "new") == "<!-- x -->\nnew\n<!-- end -->"
    assert generate.with_part(page, "y", "new") == page.replace("other", "new")
    with pytest.raises(ValueError, match="no place for z"):
        generate.with_part(page, "z", "new")
