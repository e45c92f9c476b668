"""The error for files that no store reads."""


class RefusedError(OSError):
    """The file is not read, however often that is tried: it is no regular file, or larger than the caller allows."""
