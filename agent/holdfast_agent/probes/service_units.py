"""Service units: which of them matter, and what is said of each.

A loaded unit matters when it runs, starts, stops or has failed, or when it is enabled and was started in this boot. An
enabled unit whose conditions do not hold here (a guest agent of another hypervisor), or that nothing has started yet,
does not: it is as it should be. Nor does one that nobody enabled and that has done its work: systemd's own steps at
boot, a job of a timer. One that has failed goes on to matter while systemd has it in memory, so that its recovery is
seen. Units that come with a login or a single command have no lasting name and are left out by default.

`up` means: does its work, or has done it. A service that is active, starts or reloads is up; so is a oneshot that ended
well, for to end is its work. One that waits to be started again after a crash is not.
"""

import re
from fnmatch import translate
from functools import cache

from msgspec import Struct

from holdfast_wire.message import Value

DEFAULT_EXCLUDE = (
    "user@*.service",
    "user-runtime-dir@*.service",
    "session-*.service",
    "run-*.service",
    "dbus-:*.service",
    "systemd-coredump@*.service",
    "systemd-fsck@*.service",
)
_ENABLED = frozenset({"enabled", "enabled-runtime"})
_UP = frozenset({"active", "reloading", "refreshing", "activating"})


class ServiceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[probes.services_systemd]`: shell patterns of unit names."""

    include: tuple[str, ...] = ()
    """Units that matter in any state, besides those that do by themselves."""
    exclude: tuple[str, ...] = DEFAULT_EXCLUDE
    """Units that never matter, not even when included."""

    def excludes(self, unit: str) -> bool:
        return _any_of(self.exclude).fullmatch(unit) is not None

    def includes(self, unit: str) -> bool:
        return _any_of(self.include).fullmatch(unit) is not None


@cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for all; it is asked for hundreds of units at each look."""
    return re.compile("|".join(translate(pattern) for pattern in patterns) if patterns else r"(?!)")


class ServiceUnit(Struct, frozen=True, kw_only=True):
    """What systemd says of one service. Times are microseconds; the monotonic ones count from boot."""

    id: str
    description: str = ""
    load_state: str = "loaded"
    active_state: str = "inactive"
    sub_state: str = "dead"
    unit_file_state: str = ""
    conditions_met: bool = False
    """It was started in this boot, and its conditions held."""
    type: str = ""
    restart: str = "no"
    result: str = ""
    restarts: int = 0
    start_limit_burst: int = 0
    main_pid: int = 0
    exit_code: int = 0
    """How the main process ended, as in waitid(2): 1 it exited, 2 and 3 a signal ended it; 0 it has not ended."""
    exit_status: int = 0
    ended_usec: int = 0
    """When the main process of the newest run ended; 0 while it runs."""
    changed_usec: int = 0
    """When the unit's state last changed."""
    changed_at_usec: int = 0
    """The same by the wall clock."""
    active_since_usec: int = 0
    """By the wall clock; 0 if never."""
    control_group: str = ""
    """Below the root of the control groups; empty without processes."""
    oom_kills: int | None = None
    """Of its control group; None when that is not known."""
    oom_score_adj: int | None = None
    """The main process's, or what the unit says."""

    @property
    def enabled(self) -> bool:
        return self.unit_file_state in _ENABLED

    @property
    def failed(self) -> bool:
        return self.active_state == "failed"

    @property
    def restart_waiting(self) -> bool:
        """systemd waits to start it again (`auto-restart`, since 254 also `auto-restart-queued`)."""
        return self.sub_state.startswith("auto-restart")

    @property
    def ended_badly(self) -> bool:
        """The newest run was a failure, whether or not another will follow."""
        return self.failed or (self.restart_waiting and self.result not in ("", "success"))

    @property
    def up(self) -> bool:
        if self.active_state in _UP:
            return not self.restart_waiting
        return self.type == "oneshot" and self.active_state == "inactive" and self.result == "success"

    @property
    def given_up(self) -> bool:
        """It failed too often in a row.

        systemd keeps the result of the last run and does not say `start-limit-hit` when a restart is what it refuses
        (seen with 252); but then it has counted as many restarts as starts are allowed.
        """
        counted_out = self.restart != "no" and 0 < self.start_limit_burst <= self.restarts
        return self.failed and (self.result == "start-limit-hit" or counted_out)


def matters(unit: ServiceUnit, settings: ServiceSettings, *, did_fail: bool) -> bool:
    """Whether the unit is reported."""
    if unit.load_state != "loaded" or settings.excludes(unit.id):
        return False
    if unit.enabled:
        used = unit.active_state != "inactive" or unit.conditions_met
    else:
        used = unit.active_state != "inactive" and unit.sub_state != "exited"
    return used or did_fail or settings.includes(unit.id)


def service_facts(unit: ServiceUnit) -> dict[str, Value]:
    """What is said of a unit that matters."""
    facts: dict[str, Value] = {
        "description": unit.description[:500],
        "up": unit.up,
        "failed": unit.failed,
        "active_state": unit.active_state,
        "sub_state": unit.sub_state,
        "result": unit.result,
        "enabled": unit.enabled,
        "main_pid": unit.main_pid,
        "restarts_total": unit.restarts,
        "start_timestamp_seconds": unit.active_since_usec / 1e6,
        "restart_looping": unit.restart_waiting,
        "start_limit_hit": unit.given_up,
    }
    if unit.exit_code:
        facts["exit_status"] = unit.exit_status
    if unit.oom_kills is not None:
        facts["oom_kills_total"] = unit.oom_kills
    if unit.oom_score_adj is not None and unit.main_pid:
        facts["oom_score_adj"] = unit.oom_score_adj
    return facts
