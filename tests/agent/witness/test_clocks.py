"""What a suspend does to a machine's clocks, done by the kernel to one process."""

import subprocess
import sys
from pathlib import Path

from msgspec import json

from holdfast_agent.core.resume import Clocks, resumed
from tests import needs

SUSPENDED_SECONDS = 1800
_STEPS_OVER = f"""
import ctypes, sys
from msgspec import json
from holdfast_agent.witness.clocks import read_clocks

libc, newtime = ctypes.CDLL(None, use_errno=True), 0x80
before = read_clocks()
if libc.unshare(newtime) != 0:
    sys.exit(f"unshare: {{ctypes.get_errno()}}")
with open("/proc/self/timens_offsets", "w") as offsets:
    offsets.write("boottime {SUSPENDED_SECONDS} 0")
with open("/proc/self/ns/time_for_children") as later:
    if libc.setns(later.fileno(), newtime) != 0:
        sys.exit(f"setns: {{ctypes.get_errno()}}")
sys.stdout.buffer.write(json.encode((before, read_clocks())))
"""
"""Steps into a time namespace whose boot clock is ahead (time_namespaces(7)); only a process with one thread may."""


def test_a_suspend_shows_in_the_clocks_that_the_kernel_gives() -> None:
    """The boot clock ran on and the monotonic clock stood: as after a suspend, without one."""
    needs.root()
    needs.condition(Path("/proc/self/timens_offsets").exists(), "needs time namespaces (CONFIG_TIME_NS)")

    said = subprocess.run([sys.executable, "-c", _STEPS_OVER], check=True, capture_output=True).stdout
    before, after = json.decode(said, type=tuple[Clocks, Clocks])

    assert after.boot - before.boot >= SUSPENDED_SECONDS > after.monotonic - before.monotonic
    assert resumed(before, after)
