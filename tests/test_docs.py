"""The pages in docs/ say what the code says."""

import json
import re
import tomllib
from pathlib import Path

import pyarrow as pa
import pytest

from docs import embedded_model, generate
from imagewizard.schema import RESULT_SCHEMA

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
    assert embedded_model.CURVE.exists()


def test_a_part_of_a_page_is_replaced_and_the_rest_kept() -> None:
    page = "a\n<!-- x -->\nold\n<!-- end -->\nb\n<!-- y -->\nother\n<!-- end -->\n"
    assert generate.with_part(page, "x", "new\nlines") == page.replace("old", "new\nlines")
    assert generate.with_part("<!-- x -->\n<!-- end -->", "x", "new") == "<!-- x -->\nnew\n<!-- end -->"
    assert generate.with_part(page, "y", "new") == page.replace("other", "new")
    with pytest.raises(ValueError, match="no place for z"):
        generate.with_part(page, "z", "new")
