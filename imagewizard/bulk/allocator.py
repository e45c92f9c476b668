"""The C library's allocator, in processes that allocate arrays of a megabyte for each of thousands of images."""

import ctypes

# Parameters of mallopt, by glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Arrays that are larger go back to the system when they are freed. Some versions of glibc allow no more.
KEPT_ARRAY_BYTES = 32 << 20
# More than a group of images takes.
KEPT_BYTES = 64 << 20


def keep_freed_memory() -> None:
    """Has the allocator keep what is freed for the next array, KEPT_BYTES of each of its arenas.

    By default most of it goes back to the system, and comes anew page by page: a tenth of an image's CPU time. Does
    nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, KEPT_ARRAY_BYTES)
