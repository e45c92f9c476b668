"""Whether an S3 server heeds the conditions of a write, on which the lease of a run depends."""

from botocore.exceptions import ClientError

from imagewizard.storage import s3, s3_deleting
from imagewizard.storage.s3_client import errors

# Of no object: an ETag is the MD5 of something.
_OTHER_ETAG = f'"{"0" * 32}"'
_CONDITIONS: dict[str, dict[str, str]] = {"If-None-Match": {"IfNoneMatch": "*"}, "If-Match": {"IfMatch": _OTHER_ETAG}}


def ignored(uri: str) -> list[str]:
    """Which of the conditions the server ignores, or refuses. Raises OSError.

    Found out with an object of this address, which is written and, in the end, deleted.
    """
    s3.put(uri, b"")
    try:
        return [name for name, condition in _CONDITIONS.items() if not _is_heeded(uri, name.encode(), condition)]
    finally:
        s3_deleting.delete([uri])


def _is_heeded(uri: str, content: bytes, condition: dict[str, str]) -> bool:
    """Whether a write under a condition that does not hold is refused for that."""
    with errors(uri):
        try:
            return s3.put_if(uri, content, brisk=False, **condition) is None
        except ClientError as error:
            if not s3.is_refused(error):
                raise
            return False
