"""Properties of files in S3 alone."""

import os

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from imagewizard.errors import UserError
from imagewizard.storage import Folder, files, s3_client
from tests.support.s3_faults import FaultyS3


def test_the_clients_are_kept(bucket: str) -> None:
    assert files.resolve(f"{bucket}/a")[0] is files.resolve(f"{bucket}/b")[0]
    assert s3_client.client() is s3_client.client()


def test_service_specific_endpoint_takes_precedence(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    Folder(bucket).write("file", b"here")
    assert Folder(bucket).read("file") == b"here"


def test_missing_bucket_is_an_os_error_that_names_the_file(bucket: str) -> None:
    missing = bucket + "-not"
    assert Folder(missing).list() == []
    with pytest.raises(UserError, match="NoSuchBucket"):
        Folder(missing).exists("file")
    with pytest.raises(OSError, match=f"^{missing}/file: .*NoSuchBucket"):
        Folder(missing).write("file", b"data")
    with pytest.raises(OSError, match=f"^{missing}/file: .*NoSuchBucket") as raised:
        files.read_bytes(f"{missing}/file")
    assert not isinstance(raised.value, FileNotFoundError)


def test_write_is_one_put(bucket: str) -> None:
    """pyarrow would make a multipart upload, which can be interrupted between its requests."""
    Folder(bucket).write("file", os.urandom(12 << 20))
    client = boto3.client("s3")
    name = bucket.removeprefix("s3://")
    assert "-" not in client.head_object(Bucket=name, Key="file")["ETag"]  # that of a multipart upload ends in -parts
    assert [entry["Key"] for entry in client.list_objects_v2(Bucket=name)["Contents"]] == ["file"]


def test_pyarrow_survives_a_bad_server(faulty_s3: FaultyS3) -> None:
    """It must not give up, and must not accept a truncated file, because results are read through it."""
    table = pa.table({"n": np.random.default_rng(0).random(20_000)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=5000)
    Folder(faulty_s3.bucket).write("table.parquet", sink.getvalue())
    faulty_s3.slow_down, faulty_s3.cut_off = 0.15, 0.15
    filesystem, path = files.resolve(f"{faulty_s3.bucket}/table.parquet")
    for _ in range(20):
        assert ds.dataset([path], schema=table.schema, format="parquet", filesystem=filesystem).to_table() == table
    assert faulty_s3.faults["slow_down"] > 5 and faulty_s3.faults["cut_off"] > 5
