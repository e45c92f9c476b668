"""Filters: which images a manifest is to have."""

from typing import Any

import pyarrow as pa
import pytest

from imagewizard.errors import UserError
from imagewizard.manifest.filters import Filters, matches
from imagewizard.schema import MANIFEST_SCHEMA

IMAGES = {"a.png": 10, "b.JPG": 20, "train/c.jpg": 30, "train/x/d.png": None, "e.tar#train/f.png": 40}


def kept(**filters: Any) -> list[str]:
    nothing = [None] * len(IMAGES)
    columns = {"image_id": list(IMAGES), "uri": list(IMAGES), "bytes": list(IMAGES.values())}
    table = pa.table(columns | {"member": nothing, "offset": nothing, "row": nothing}, schema=MANIFEST_SCHEMA)
    [found] = Filters(**filters).keep(iter([table]))
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
    assert matches(tuple(image_id.split("/")), tuple(glob.split("/"))) is expected


@pytest.mark.parametrize(
    ("filters", "complaint"),
    [
        ({"suffixes": (".heic",)}, r"--suffix: \.heic is not listed anyway; one or more of \.png"),
        ({"suffixes": ("png",)}, "--suffix: png"),
        ({"min_bytes": -1}, r"--min-bytes: must be 0 or more \(got -1\)"),
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
