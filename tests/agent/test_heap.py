"""The agent's threads share one heap of the C library."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from holdfast_agent.heap_linux import use_one_heap
if not use_one_heap():
    print("unknown")
    sys.exit()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(8)
def allocate():
    together.wait()
    libc.malloc(ctypes.c_size_t(5000))
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has glibc")
def test_threads_get_no_heaps_of_their_own() -> None:
    """Each would keep what the largest look ever took of it."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    if done.stdout.startswith("unknown"):
        pytest.skip("this C library has no arenas to speak of")

    assert done.stdout.count("<heap nr=") == 1
