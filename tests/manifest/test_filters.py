"""Filters: which images a manifest is to have."""

import itertools
import random
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa
import pytest

from imagewizard.errors import UserError
from imagewizard.manifest.filters import Filters, glob_pattern
from imagewizard.manifest.tally import Tally
from imagewizard.schema import MANIFEST_SCHEMA

IMAGES = {"a.png": 10, "b.JPG": 20, "train/c.jpg": 30, "train/x/d.png": None, "e.tar#train/f.png": 40}


def kept(**filters: Any) -> list[str]:
    nothing = [None] * len(IMAGES)
    columns = {"image_id": list(IMAGES), "uri": list(IMAGES), "bytes": list(IMAGES.values())}
    table = pa.table(columns | {"member": nothing, "offset": nothing, "row": nothing}, schema=MANIFEST_SCHEMA)
    tally = Tally()
    [found] = Filters(**filters).keep(iter([table]), tally)
    assert tally.filtered == (0 if "limit" in filters else len(IMAGES) - found.num_rows)
    return list(found["image_id"].to_pylist())


def test_each_filter_and_all_together() -> None:
    assert kept() == list(IMAGES)
    assert kept(suffixes=(".jpg",)) == ["b.JPG", "train/c.jpg"]
    assert kept(suffixes=(".PNG", ".jpg")) == list(IMAGES)
    assert kept(min_bytes=20) == ["b.JPG", "train/c.jpg", "train/x/d.png", "e.tar#train/f.png"]
    assert kept(max_bytes=20) == ["a.png", "b.JPG", "train/x/d.png"]
    assert kept(min_bytes=20, max_bytes=30) == ["b.JPG", "train/c.jpg", "train/x/d.png"]
    assert kept(glob="train/*") == ["train/c.jpg"]
    assert kept(glob="train/**", suffixes=(".png",)) == ["train/x/d.png"]
    assert kept(limit=2) == ["a.png", "b.JPG"]
    assert kept(limit=99) == list(IMAGES)


def test_a_limit_takes_the_first_that_fit_and_no_table_more() -> None:
    def tables() -> Iterator[pa.Table]:
        for number in itertools.count():
            rows = {"image_id": [f"{number}.png", f"{number}.jpg"], "uri": ["x"] * 2}
            yield pa.table([rows.get(name, pa.nulls(2)) for name in MANIFEST_SCHEMA.names], schema=MANIFEST_SCHEMA)
            assert number < 2, "it goes on beyond the limit"

    tally = Tally()
    kept = Filters(suffixes=(".png",), limit=3).keep(tables(), tally)
    assert [name for table in kept for name in table["image_id"].to_pylist()] == ["0.png", "1.png", "2.png"]
    assert tally.filtered == 3
    assert Filters(limit=3).as_json() == {"limit": 3} and str(Filters(limit=3)) == "the first 3"
    with pytest.raises(UserError, match="--limit: is 0; give 1 or more"):
        Filters(limit=0)


@pytest.mark.parametrize(
    ("image_id", "glob", "expected"),
    [
        ("a.png", "*.png", True),
        ("x/a.png", "*.png", False),
        ("a.png", "**/*.png", True),
        ("x/y/a.png", "**/*.png", True),
        ("x/y/a.png", "x/*/a.png", True),
        ("x/y/z/a.png", "x/*/a.png", False),
        ("x/y/z/a.png", "x/**/a.png", True),
        ("x/a.png", "x/**/a.png", True),
        ("x/y/a.png", "x/**", True),
        ("xx/y/a.png", "x/**", False),
        ("x/a.png", "x", False),
        ("a.png", "A.png", False),
        ("left_01.png", "left_[0-9]?.png", True),
        ("left_a1.png", "left_[0-9]?.png", False),
        ("a/b/c/d", "**/b/**/d", True),
        ("a/c/b/d", "**/b/c/**", False),
    ],
)
def test_globs(image_id: str, glob: str, expected: bool) -> None:
    assert (glob_pattern(glob).fullmatch(f"{image_id}/") is not None) is expected


def by_definition(parts: list[str], pattern: list[str]) -> bool:
    """Whether the parts of an id fit those of a glob: plain, and exponential in the number of `**`."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(by_definition(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and by_definition(parts[1:], pattern[1:])


def test_globs_mean_what_their_definition_says() -> None:
    rng = random.Random(0)
    names = ["a", "b", "ab", "ba", "aab", "abab", ""]
    globs = ["**", "**", "a", "b", "*", "*b", "a*", "?", "*a*b", "a*b*", "[ab]", "[!a]*", "[+-9]", "[b-a]", "[", "[]]"]
    fits = 0
    for _ in range(20_000):
        parts = rng.choices(names, k=rng.randint(1, 5))
        glob = rng.choices(globs, k=rng.randint(1, 5))
        expected = by_definition(parts, glob)
        found = glob_pattern("/".join(glob)).fullmatch("/".join(parts) + "/") is not None
        assert found is expected, (parts, glob)
        fits += expected
    assert fits > 1000


def test_no_glob_takes_exponential_time() -> None:
    """A plain search would take centuries for each."""
    deep = "/".join(["a"] * 24)
    assert not glob_pattern("/".join(["**", "a"] * 6 + ["b"])).fullmatch(f"{deep}/")
    deeper = "/".join(["a"] * 2000)
    assert not glob_pattern("/".join(["**", "a"] * 30 + ["b"])).fullmatch(f"{deeper}/")
    assert not glob_pattern("*a" * 30 + "b").fullmatch("a" * 2000 + "/")


@pytest.mark.parametrize(
    ("filters", "complaint"),
    [
        ({"suffixes": (".heic",)}, r"--suffix: \.heic is not listed anyway; give one or more of \.png"),
        ({"suffixes": ("png",)}, "--suffix: png"),
        ({"min_bytes": -1}, r"--min-bytes: is -1; give 0 or more"),
        ({"max_bytes": -1}, "--max-bytes"),
        ({"min_bytes": 3, "max_bytes": 2}, "--min-bytes 3 is more than --max-bytes 2"),
    ],
)
def test_impossible_filters_are_refused(filters: dict, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Filters(**filters)


def test_filters_in_words_and_in_an_index() -> None:
    assert (str(Filters()), Filters().as_json()) == ("none", {})
    some = Filters(suffixes=(".png", ".JPG"), min_bytes=0, max_bytes=9, glob="a/*")
    assert str(some) == "suffix .png .JPG, at least 0 bytes, at most 9 bytes, name like a/*"
    assert some.as_json() == {"suffixes": [".jpg", ".png"], "min_bytes": 0, "max_bytes": 9, "glob": "a/*"}
