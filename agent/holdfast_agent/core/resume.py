"""Whether a machine went on after a standstill, by what its three clocks did between two looks at them.

| what happened | what the clocks show |
|---|---|
| the machine slept | the boot clock ran on, the monotonic clock stood (clock_gettime(2)) |
| its host paused it, or took it back to a snapshot of its memory, and all its clocks stood | the wall clock, once somebody set it right, is ahead of the boot clock |
| its host paused it, and its clocks ran on | a wait took longer than it was meant to |

A wall clock that was wrong and is set right looks like the second, an agent that got no processor time like the third:
a chain is then read back once for nothing. A machine that nobody tells the time shows nothing after the second; the
hypervisor's own notice of a copy (`vm_fork`) is a better witness there.
"""

from msgspec import Struct

SUSPENDED_SECONDS = 1.0
STEPPED_SECONDS = 5.0
"""Corrections of a wall clock that is kept right are smaller (catalogue B-07)."""
LATE_SECONDS = 5.0
"""Busy machines wake a thread a second or two late (catalogue B-08)."""


class Clocks(Struct, frozen=True):
    """The three clocks at one moment, in seconds."""

    wall: float
    boot: float
    monotonic: float


def resumed(before: Clocks, now: Clocks, waited_at_most: float | None = None) -> bool:
    """Whether the machine stood still between two looks. `waited_at_most`: what lay between them was a wait of at most
    so many seconds, and nothing else; None: work, which may take its time."""
    boot, monotonic, wall = now.boot - before.boot, now.monotonic - before.monotonic, now.wall - before.wall
    return (
        boot - monotonic >= SUSPENDED_SECONDS
        or wall - boot >= STEPPED_SECONDS
        or (waited_at_most is not None and monotonic - waited_at_most >= LATE_SECONDS)
    )
