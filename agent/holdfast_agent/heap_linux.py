"""Keeps the C library from giving each thread a heap of its own.

Every look of a probe is a thread, and glibc gives threads up to eight heaps a core, none of which shrinks to what the next
look needs: 10 MB after five minutes of looks each second, where one heap stands still at once (measured). Threads wait for
each other's allocations then, which an agent that is idle but for some milliseconds does not notice.
"""

import ctypes

_M_ARENA_MAX = -8
"""malloc.h of glibc; mallopt(3)."""


def use_one_heap() -> bool:
    """Call before the first thread. Whether the C library knows it: musl's has one heap anyhow."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_ARENA_MAX, 1))
