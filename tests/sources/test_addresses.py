"""Addresses within packed files: different places have different ones, and each leads back."""

import itertools

import pytest

from imagewizard.sources import addresses

PARTS = ["a", "#", "%", "%23", "%25", ".tar", ".TAR#1", ".tar%", ".parquet#", "/", "?", " ", "é"]


@pytest.mark.parametrize(
    ("file", "packed", "address"),
    [
        ("/in/s.tar", "a/b.png", "/in/s.tar#a/b.png"),
        ("/in 50%?#1/sh#ard.tar", "m#2.png", "/in 50%?#1/sh#ard.tar#m#2.png"),
        ("s3://b/t.parquet", 7, "s3://b/t.parquet#7"),
        ("/x.tar#1/s.tar", "m.png", "/x.tar%231/s.tar#m.png"),
        ("/x.TAR%231/t.parquet", 0, "/x.TAR%25231/t.parquet#0"),
        ("/in/s.tar", "y.tar#1/m.png", "/in/s.tar#y.tar#1/m.png"),
    ],
)
def test_an_address_is_the_file_and_the_member(file: str, packed: str | int, address: str) -> None:
    assert addresses.join(file, packed) == address
    assert addresses.split(address) == (file, str(packed))


def test_every_pair_has_an_address_of_its_own() -> None:
    files = ["".join(parts) + suffix for parts in itertools.product(PARTS, repeat=2) for suffix in (".tar", ".parquet")]
    members = ["".join(parts) for parts in itertools.product(PARTS, repeat=2)]
    pairs = [*itertools.product(files, members[::7]), *itertools.product(files[::7], members)]
    assert all(addresses.split(addresses.join(*pair)) == pair for pair in pairs)


@pytest.mark.parametrize("path", ["/in/a#1.png", "/in#/x.tar", "/x.tar#", "/x.tar/a#b.png", "/x.tgz#a", "#a", ""])
def test_other_paths_are_plain(path: str) -> None:
    assert addresses.split(path) is None and list(addresses.places(path)) == []


def test_what_an_older_version_wrote_is_among_the_places() -> None:
    assert list(addresses.places("/x.tar#1/s.tar#m.png")) == [
        ("/x.tar", "1/s.tar#m.png"),
        ("/x.tar#1/s.tar", "m.png"),
    ]
    assert ("/x.tar%231/s.tar", "m.png") in list(addresses.places("/x.tar%231/s.tar#m.png"))
    assert list(addresses.places("/in 5%/s.tar#m.png")) == [("/in 5%/s.tar", "m.png")]
