"""What happened to a service between two looks at it: failures, restarts, kills for want of memory.

Pure, and made so that it does not matter how often it looks: systemd joins signals that follow each other quickly, the
agent is sometimes down. Each failure is told once, by the moment its process ended; restarts are told as often as
systemd counted them, but not before a new run has begun or ended: systemd counts a restart while it still waits for
it, and the last one before it gives up never begins.

| seen before                   | now                                  | told                                        |
|-------------------------------|--------------------------------------|---------------------------------------------|
| anything                      | ended badly at another moment        | unit_failed; unit_oom_kill by its result    |
| that failure, then a restart  | failed again, same ended run         | unit_failed: systemd has given up           |
| fewer restarts                | runs, or has failed in another run   | unit_restarted, with how many               |
| fewer restarts                | waits for its restart                | nothing yet                                 |
| fewer restarts                | failed, no other run has ended       | nothing: the restart was refused            |
| that failure                  | failed, with the result success      | nothing: it is being started by hand        |
| more restarts                 | any                                  | counted anew: systemd was told to forget    |
"""

from typing import Literal

from msgspec import Struct

from holdfast_agent.probes.service_units import ServiceUnit


class Seen(Struct, frozen=True, array_like=True):
    """What has been told of a unit."""

    restarts: int = 0
    failure_usec: int = 0
    """When the run that was told to have failed ended."""
    failed_usec: int = 0
    """When the unit entered the failed state that was told; 0 when it was told while waiting for its restart."""


class Told(Struct, frozen=True):
    """One thing that happened."""

    type: Literal["unit_failed", "unit_restarted", "unit_oom_kill"]
    count: int = 1
    """How many restarts."""


def baseline(unit: ServiceUnit) -> Seen:
    """As if all that is to be seen now had been told: for an agent that comes to a running machine."""
    return changes(Seen(), unit)[0]


def changes(seen: Seen, unit: ServiceUnit) -> tuple[Seen, list[Told]]:
    """What happened since `seen`, in order, and what is told with it."""
    told: list[Told] = []
    failure = _failure(unit)
    new_failure = failure != 0 and failure != seen.failure_usec
    restarts = seen.restarts if unit.restarts >= seen.restarts else 0
    if unit.restarts > restarts and (_runs(unit) or (unit.failed and new_failure)):
        told.append(Told("unit_restarted", unit.restarts - restarts))
        restarts = unit.restarts
    elif unit.failed:
        restarts = unit.restarts
    given_up = unit.failed and not new_failure and unit.changed_usec not in (0, seen.failed_usec)
    if new_failure or given_up:
        told.append(Told("unit_failed"))
    if new_failure and unit.result == "oom-kill":
        told.append(Told("unit_oom_kill"))
    return (
        Seen(
            restarts,
            failure or seen.failure_usec,
            unit.changed_usec if unit.failed else seen.failed_usec if not new_failure else 0,
        ),
        told,
    )


def _failure(unit: ServiceUnit) -> int:
    """Which failure the unit is in: when its process ended, or when the state changed where it never had one.

    A unit that failed with success is being started again: systemd resets the result before the state.
    """
    if not unit.ended_badly or unit.result == "success":
        return 0
    return unit.ended_usec or unit.changed_usec


def _runs(unit: ServiceUnit) -> bool:
    return (
        unit.active_state in ("active", "activating", "reloading", "refreshing") and not unit.restart_waiting
    )
