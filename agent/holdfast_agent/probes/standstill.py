"""Standstills, from a clock that ticks: a tick that comes late, or a clock that ran on while another stood.

A suspended machine's boot clock goes on and its monotonic clock stands (clock_gettime(2)). A machine that its host pauses
sees both jump, or neither: then only the wall clock's step tells, and that has a probe of its own. An agent that gets no
processor time looks like a paused machine to itself; the time that the host gave to others (steal) helps to tell.
"""

from msgspec import Struct

TICK_SECONDS = 5.0
"""Between two looks at the clocks: a few microseconds of work each."""
LATE_SECONDS_MIN = 5.0
"""Busy machines delay a tick by a second or two (catalogue B-08)."""


class Ticked(Struct, frozen=True):
    """The clocks at one tick, in seconds."""

    monotonic: float
    boot: float
    steal: float = 0.0
    """Processor time that the host gave to others, of all processors (proc_stat(5))."""


class Standstill(Struct, frozen=True):
    """Time that is missing between two ticks."""

    seconds: float
    suspended_seconds: float
    """The part of it that the machine slept, by its own word."""
    steal_seconds: float


def standstill(before: Ticked, now: Ticked, tick_seconds: float = TICK_SECONDS) -> Standstill | None:
    """What was missing; None when the tick came in time."""
    suspended = (now.boot - before.boot) - (now.monotonic - before.monotonic)
    missing = (now.boot - before.boot) - tick_seconds
    if missing < LATE_SECONDS_MIN:
        return None
    return Standstill(
        seconds=round(missing, 1),
        suspended_seconds=round(max(0.0, suspended), 1),
        steal_seconds=round(max(0.0, now.steal - before.steal), 1),
    )


def steal_seconds(stat: str, ticks_per_second: int) -> float:
    """The eighth number of /proc/stat's first line, in seconds; 0 where there is none."""
    fields = stat.partition("\n")[0].split()
    if len(fields) < 9 or fields[0] != "cpu" or not fields[8].isdigit():
        return 0.0
    return int(fields[8]) / ticks_per_second
