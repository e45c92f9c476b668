"""Listing an S3 prefix with many threads: every key once, however the keys are distributed, and errors at once."""

import random
from collections.abc import Iterator

import boto3
import pytest

from imagewizard.errors import UserError
from imagewizard.storage import Folder, s3_client, s3_listing
from imagewizard.storage.s3_listing import between
from tests.support.listing_server import ListingServer, serving


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


KEYS = {
    "flat": [f"in/{i:05d}.png" for i in range(3000)],
    "a folder each": [f"in/{i:05d}/image.png" for i in range(3000)],
    "few folders": [f"in/{'abcdefgh'[i % 8]}/{i}.png" for i in range(3000)],
    "deep": [f"in/a/very/long/way/down/to/the/images/{i}.png" for i in range(1000)],
    "any characters": ["".join(random.Random(i).choices("ab/é語😀 +%&~", k=9)) for i in range(2000)],
    "every cut a key": [f"in/{a}{b}" for a in map(chr, range(33, 127)) for b in ["", *map(chr, range(33, 127, 5))]],
    "one": ["in/a.png"],
}


@pytest.fixture(params=KEYS)
def server(
    request: pytest.FixtureRequest, credentials: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ListingServer]:
    keys = sorted({key if key.startswith("in/") else f"in/{key}" for key in KEYS[request.param]})
    with serving(["IN/x.png", "in", *keys, "in0", "inn/a.png"], page=20) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        yield server


def test_every_key_is_listed_once_with_its_size(server: ListingServer) -> None:
    found = [entry for page in s3_listing.pages("s3://bucket/in/") for entry in page]
    expected = [key for key in server.keys if key.startswith("in/")]
    assert sorted(key for key, _ in found) == expected
    assert all(size == len(key) for key, size in found)
    pages = -(-len(expected) // server.page)
    assert len(server.starts) <= 2 * pages + 2 * s3_listing.THREADS


def test_the_threads_share_one_folder(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"in/{i:05d}.png" for i in range(20_000)]
    with serving(keys, page=20) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        sum(len(page) for page in s3_listing.pages("s3://bucket/in"))
        known = set(keys)
        cuts = [start for start in server.starts if start and start not in known and start > "in/0"]
    assert len([cut for cut in cuts if keys[0] < cut < keys[-1]]) > s3_listing.THREADS


def test_a_refusal_in_the_middle_reaches_the_consumer(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([f"in/{i:05d}.png" for i in range(3000)], page=20) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        server.fail_at = "in/02"
        with pytest.raises(OSError, match=r"s3://bucket/in/.*AccessDenied"):
            list(s3_listing.pages("s3://bucket/in"))


def test_a_uri_is_a_folder_a_file_or_nothing(bucket: str) -> None:
    client, name = boto3.client("s3"), bucket.removeprefix("s3://")
    for key in ("a/b.png", "a.tar", "a.tar.png", "marked/", "x.parquet/part-0.parquet", "both", "both/c.png"):
        client.put_object(Bucket=name, Key=key, Body=b"x")
    for key in ("mark", "mark/a.png", "empty"):
        client.put_object(Bucket=name, Key=key, Body=b"")
    kinds = {
        "": "folder", "/": "folder", "/a": "folder", "/a/": "folder", "/a/b.png": "file", "/a.tar": "file",
        "/a.ta": None, "/nowhere": None, "/marked": "folder", "/x.parquet": "folder", "/both": "file",
        "/both/": "folder", "/mark": "folder", "/mark/": "folder", "/empty": "file",
    }  # fmt: skip
    assert {path: s3_listing.kind(bucket + path) for path in kinds} == kinds


def test_a_missing_or_forbidden_bucket_is_a_user_error(
    bucket: str, credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"^s3://no-such-bucket.*NoSuchBucket") as error:
        s3_listing.kind("s3://no-such-bucket/in")
    assert "\n" not in str(error.value)
    with serving(["in/a.png"]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        server.fail_at = ""
        with pytest.raises(UserError, match=r"^s3://bucket.*AccessDenied"):
            s3_listing.kind("s3://bucket/in")


@pytest.mark.parametrize(
    ("low", "high"),
    [("in/a", "in/c"), ("in/a", "in/b"), ("in/a", None), ("in/az", "in/b"), ("in/~~", None), ("in/語", None),
     ("in/a", "in/aa"), ("in/😀", None), ("in/a", "in/a~"), ("in/", "in/0"),
     ("in/\ub000", "in/\U00010400")],
)  # fmt: skip
def test_a_cut_lies_between(low: str, high: str | None) -> None:
    middle = between(low, high, 3)
    assert middle is not None and low < middle and (high is None or middle < high)
    middle.encode()
    assert low.encode() < middle.encode()


def test_adjacent_keys_have_no_cut() -> None:
    assert between("in/a", "in/a ", 3) is None


def test_cuts_halve_the_possible_keys() -> None:
    assert between("in/0000", "in/9", 3) == "in/4"
    assert between("in/0000", None, 3) == "in/W"


def test_other_callers_get_complete_answers(bucket: str) -> None:
    Folder(bucket).write("a.png", b"x")
    assert [key for page in s3_listing.pages(bucket) for key, _ in page] == ["a.png"]
    answer = s3_client.client().list_objects_v2(Bucket=bucket.removeprefix("s3://"))
    assert {"ETag", "LastModified", "StorageClass"} <= answer["Contents"][0].keys()
