"""What the tests of S3 share: an object, and retries that do not wait."""

import random

import pytest

from imagewizard.storage import s3, s3_client
from tests.support.s3_faults import FaultyS3

CONTENT = random.Random(0).randbytes(256_000)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture
def uri(faulty_s3: FaultyS3) -> str:
    """An object with CONTENT."""
    uri = f"{faulty_s3.bucket}/some folder/ä+b%20"
    s3.put(uri, CONTENT)
    faulty_s3.requests.clear()
    return uri
