"""The machine's three clocks, read together."""

import time

from holdfast_agent.core.resume import SUSPENDED_SECONDS, Clocks
from holdfast_agent.probe import boot_clock

TRIES = 5


def read_clocks() -> Clocks:
    """Now. On a machine too busy to read them at one moment, the newest of a few tries."""
    for _ in range(TRIES):
        monotonic = time.monotonic()
        clocks = Clocks(wall=time.time(), boot=boot_clock(), monotonic=monotonic)
        if time.monotonic() - monotonic < SUSPENDED_SECONDS / 10:
            break
    return clocks
