"""Memory that a sync has used and its allocators keep: a daemon that runs for years gives it back."""

import ctypes

import pyarrow as pa


def give_back() -> None:
    """Return to the system what is free (malloc_trim(3), where there is one): some milliseconds."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl not
    if trim is not None:
        trim(0)
