"""Tells when the machine stood still or slept: everything that depends on time-outs may have decided without it."""

import asyncio
import os
import sys
import time
from collections.abc import Callable

from msgspec import Struct

from holdfast_agent.probe import (
    Emit,
    Happening,
    Observation,
    Poll,
    ProbeContext,
    Refresh,
    Signal,
    Unsupported,
    Watch,
)
from holdfast_agent.probes.small_file import read_small
from holdfast_agent.probes.standstill import TICK_SECONDS, Standstill, Ticked, standstill, steal_seconds
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value


class StandstillRaw(Struct, frozen=True, kw_only=True):
    """What the watch has seen since the agent started."""

    total: int
    newest_seconds: float | None = None


class Standstills(Poll[StandstillRaw], Watch):
    """The machine's standstills."""

    name = "standstill"
    platforms = frozenset({"linux"})
    cost = "nobody knows that the machine was paused while its leases ran out"
    period_seconds = 60.0
    timeout_seconds = 5.0
    emits = (("node", "freezes_total"), ("node", "freeze_seconds"))
    events = ("freeze",)
    told_by = (Signal(by="the end of a standstill of more than five seconds", facts=emits, events=events),)

    def __init__(
        self,
        context: ProbeContext,
        ticked: Callable[[], Ticked] | None = None,
        tick_seconds: float = TICK_SECONDS,
    ) -> None:
        super().__init__(context)
        self._tick_seconds = tick_seconds
        self._ticked = ticked or self._clocks
        self._before: Ticked | None = None
        self._total = 0
        self._newest: float | None = None

    def read(self) -> StandstillRaw:
        return StandstillRaw(total=self._total, newest_seconds=self._newest)

    def interpret(self, raw: StandstillRaw) -> Observation:
        facts: dict[str, Value] = {"freezes_total": raw.total}
        if raw.newest_seconds is not None:
            facts["freeze_seconds"] = raw.newest_seconds
        node = Resource(kind=ResourceKind.NODE, name=self.context.node, facts=facts)
        return Observation(resources=[node])

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Tick, and report what a tick misses."""
        self._before = None
        while True:
            happening = self.tick()
            if happening is not None:
                await emit(happening)
                refresh()
                self._before = None  # what the telling took is no standstill
            else:
                await asyncio.sleep(self._tick_seconds)

    def tick(self) -> Happening | None:
        """Compare the clocks with what they were one tick ago."""
        now = self._ticked()
        before, self._before = self._before, now
        found = standstill(before, now, self._tick_seconds) if before is not None else None
        if found is None:
            return None
        self._total += 1
        self._newest = found.seconds
        return self._happening(found)

    def _happening(self, found: Standstill) -> Happening:
        asleep = found.suspended_seconds > found.seconds / 2
        what = "the machine slept" if asleep else "the machine, or the agent alone, stood still"
        return Happening(
            type="freeze",
            resource_kind=ResourceKind.NODE,
            resource=self.context.node,
            at=self.context.wall_clock(),
            summary=f"{what} for {found.seconds:.1f} s",
            fields={
                "seconds": found.seconds,
                "suspended_seconds": found.suspended_seconds,
                "steal_seconds": found.steal_seconds,
                "boot_id": self.context.boot_id,
            },
        )

    def _clocks(self) -> Ticked:
        if sys.platform != "linux":
            raise Unsupported("these clocks are Linux's")
        try:
            stat = read_small(self.context.procfs / "stat")
        except OSError:
            stat = ""
        return Ticked(
            monotonic=time.clock_gettime(time.CLOCK_MONOTONIC),
            boot=self.context.boot_clock(),
            steal=steal_seconds(stat, os.sysconf("SC_CLK_TCK")),
        )
