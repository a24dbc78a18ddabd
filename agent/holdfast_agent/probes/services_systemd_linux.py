"""Services under systemd: what state each is in, and each failure and restart as it happens.

The watch subscribes to systemd's signals, compares what they say with what was told before (`service_changes`), and
makes events of the difference, at once. What was told is noted, so that an agent that was away tells what happened
meanwhile and tells nothing twice; on its first run on a machine it tells nothing that happened before.

The poll states the facts. To list the units is cheap (2 ms for 350), to ask for one's details is not (0.3 ms here and as
much in process 1), so details are kept and asked for anew when the list shows another state, when the watch has heard
of the unit, and for a sixtieth of the units at each look, whatever happens.
"""

import asyncio
import threading
from collections import deque
from typing import Any

import msgspec
from msgspec import Struct

from holdfast_agent.probe import (
    Emit,
    Happening,
    Lag,
    NoData,
    Observation,
    Poll,
    ProbeContext,
    ProbeStop,
    Refresh,
    Signal,
    Unsupported,
    Watch,
)
from holdfast_agent.probes.paced_refresh import paced
from holdfast_agent.probes.service_changes import Seen, Told, baseline, changes
from holdfast_agent.probes.service_memory_linux import ServiceMemory
from holdfast_agent.probes.service_units import ServiceSettings, ServiceUnit, matters, service_facts
from holdfast_agent.probes.systemd_bus_linux import (
    UNIT,
    Change,
    ListedUnit,
    Properties,
    SystemdBus,
    UnitGone,
    systemd_bus,
)
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind

_TOLD_NOTE = "told"
_ANSWER_SECONDS = 12.0
_LOOKS_FOR_ALL = 60
"""After so many looks every unit's details have been asked for again."""
_FOR_FACTS = ("UnitFileState", "ConditionResult", "StartLimitBurst", "ActiveEnterTimestamp")
_FOR_EVENTS = ("ConditionResult", "StateChangeTimestamp", "StateChangeTimestampMonotonic")


class ServicesRaw(Struct, frozen=True):
    """All loaded services, and their details as far as they may matter."""

    units: list[ServiceUnit]


class _ToldNote(Struct, frozen=True):
    boot_id: str
    units: dict[str, Seen]


class ServicesSystemd(Poll[ServicesRaw], Watch):
    """The services that systemd runs or should run."""

    name = "services_systemd"
    platforms = frozenset({"linux"})
    cost = "services fail, crash in a loop or are killed for want of memory unnoticed"
    period_seconds = 30.0  # every change comes through the watch, and has it look at once
    timeout_seconds = 15.0
    settings_type = ServiceSettings
    emits = tuple(
        ("service", fact)
        for fact in (
            "description", "up", "failed", "active_state", "sub_state", "result", "exit_status", "enabled", "main_pid",
            "restarts_total", "start_timestamp_seconds", "restart_looping", "start_limit_hit", "oom_score_adj",
            "oom_kills_total",
        )
    )  # fmt: skip
    events = ("unit_failed", "unit_restarted", "unit_oom_kill")
    lags = (
        Lag(
            by="a unit of which nothing is heard is asked for its details in turn",
            facts=tuple(
                pair
                for pair in emits
                if pair[1] not in ("up", "failed", "active_state", "sub_state", "oom_kills_total")
            ),
            looks=_LOOKS_FOR_ALL,
        ),
    )
    told_by = (
        Signal(
            by="systemd's signals about units",
            facts=tuple(
                pair
                for pair in emits
                if pair[1] not in ("description", "enabled", "oom_score_adj", "oom_kills_total")
            ),
            events=events,
        ),
    )

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._settings = settings if isinstance(settings, ServiceSettings) else ServiceSettings()
        self._details: dict[str, ServiceUnit] = {}
        self._memory = ServiceMemory(context.procfs, context.sysfs)
        self._turn = 0
        self._failed: set[str] = set()
        self._stale: set[str] = set()
        self._all_stale = False
        self._stale_lock = threading.Lock()

    def check(self) -> None:
        if not (self.context.rootfs / "run" / "systemd" / "system").is_dir():
            # sd_booted(3)
            raise Unsupported("systemd does not run this machine")

    def read(self) -> ServicesRaw:
        self.check()
        return asyncio.run(self._read())

    async def _read(self) -> ServicesRaw:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), systemd_bus(self.context.rootfs) as bus:
                return ServicesRaw(await self._units(bus))
        except TimeoutError:
            raise TimeoutError(f"systemd has not answered within {_ANSWER_SECONDS:g} s") from None

    def interpret(self, raw: ServicesRaw) -> Observation:
        reported = [
            unit for unit in raw.units if matters(unit, self._settings, did_fail=unit.id in self._failed)
        ]
        if not reported:
            raise NoData("systemd has no service here that runs, has failed or is enabled")
        self._failed = {unit.id for unit in reported if unit.id in self._failed or unit.ended_badly}
        without_account = any(unit.control_group and unit.oom_kills is None for unit in reported)
        return Observation(
            missing={
                "oom_kills_total": "the kernel keeps no account of memory for some services (cgroups(7))"
            }
            if without_account
            else {},
            resources=[
                Resource(kind=ResourceKind.SERVICE, name=unit.id[:512], facts=service_facts(unit))
                for unit in sorted(reported, key=lambda unit: unit.id)
            ],
        )

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Tell failures and restarts as systemd signals them, and what happened while nobody listened."""
        self.check()
        refresh = paced(refresh)
        async with systemd_bus(self.context.rootfs) as bus:
            follower = _Follower(self.context, self._settings, bus, emit)
            await bus.subscribe(follower.heard, self._forget_all)
            lost = asyncio.ensure_future(bus.until_lost())
            try:
                await follower.catch_up()
                refresh()
                while True:
                    heard = asyncio.ensure_future(follower.next_change())
                    await asyncio.wait({lost, heard}, return_when=asyncio.FIRST_COMPLETED)
                    if lost.done():
                        heard.cancel()
                        lost.result()
                    change = heard.result()
                    self._forget(change.unit)
                    await follower.take(change)
                    refresh()
            finally:
                lost.cancel()

    def _forget(self, unit: str) -> None:
        with self._stale_lock:
            self._stale.add(unit)

    def _forget_all(self) -> None:
        with self._stale_lock:
            self._all_stale = True

    async def _units(self, bus: SystemdBus) -> list[ServiceUnit]:
        listed = [unit for unit in await bus.services() if unit.load_state == "loaded"]
        due = self._due(listed)
        try:
            fresh = await asyncio.gather(
                *(_details(bus, unit, _FOR_FACTS) for unit in listed if unit.id in due)
            )
        except (OSError, ProbeStop, asyncio.CancelledError):
            self._forget_all()  # what was due is still
            raise
        known = {id_: unit for id_, unit in self._details.items() if id_ not in due}
        self._details = known | {unit.id: unit for unit in fresh if unit is not None}
        self._details |= self._memory.looked_at(self._details, due)
        return [self._details[unit.id] for unit in listed if unit.id in self._details]

    def _due(self, listed: list[ListedUnit]) -> set[str]:
        """The units whose details have to be asked for now."""
        with self._stale_lock:
            stale, everything = self._stale, self._all_stale
            self._stale, self._all_stale = set(), False
        gone = self._details.keys() - {unit.id for unit in listed}
        for id_ in gone:
            del self._details[id_]
        wanted = [unit for unit in listed if not self._settings.excludes(unit.id)]
        if everything:
            return {unit.id for unit in wanted}
        self._turn = (self._turn + 1) % _LOOKS_FOR_ALL
        due = set()
        for place, unit in enumerate(wanted):
            known = self._details.get(unit.id)
            moved = known is None or (known.active_state, known.sub_state) != (
                unit.active_state,
                unit.sub_state,
            )
            if moved or unit.id in stale or place % _LOOKS_FOR_ALL == self._turn:
                due.add(unit.id)
        return due


async def _details(bus: SystemdBus, listed: ListedUnit, properties: tuple[str, ...]) -> ServiceUnit | None:
    """All about one unit; None when it is gone. A unit that nothing has started is not asked for its service."""
    try:
        unit = await bus.unit_properties(listed.path, properties)
        service: Properties = {}
        if listed.active_state != "inactive" or unit["ConditionResult"]:
            service = await bus.service_properties(listed.path)
    except UnitGone:
        return None
    return _unit(listed, unit, service)


def _unit(listed: ListedUnit, unit: Properties, service: Properties) -> ServiceUnit:
    return ServiceUnit(
        id=listed.id,
        description=listed.description,
        load_state=listed.load_state,
        active_state=listed.active_state,
        sub_state=listed.sub_state,
        unit_file_state=unit.get("UnitFileState", ""),
        conditions_met=unit.get("ConditionResult", False),
        start_limit_burst=unit.get("StartLimitBurst", 0),
        active_since_usec=unit.get("ActiveEnterTimestamp", 0),
        changed_usec=unit.get("StateChangeTimestampMonotonic", 0),
        changed_at_usec=unit.get("StateChangeTimestamp", 0),
        type=service.get("Type", ""),
        restart=service.get("Restart", "no"),
        result=service.get("Result", ""),
        restarts=service.get("NRestarts", 0),
        main_pid=service.get("MainPID", 0),
        exit_code=service.get("ExecMainCode", 0),
        exit_status=service.get("ExecMainStatus", 0),
        ended_usec=service.get("ExecMainExitTimestampMonotonic", 0),
        control_group=service.get("ControlGroup", ""),
        oom_score_adj=service.get("OOMScoreAdjust"),
    )


class _Follower:
    """Turns signals into events: what a unit is now, against what was told of it."""

    def __init__(self, context: ProbeContext, settings: ServiceSettings, bus: SystemdBus, emit: Emit) -> None:
        self._context = context
        self._settings = settings
        self._bus = bus
        self._emit = emit
        self._heard: deque[Change] = deque()
        self._arrived = asyncio.Event()
        self._now: dict[str, ServiceUnit] = {}
        self._service: dict[str, dict[str, Any]] = {}
        note = self._note()
        self._first_run = note is None
        same_boot = note is not None and note.boot_id == context.boot_id
        self._told: dict[str, Seen] = note.units if note is not None and same_boot else {}

    def heard(self, change: Change) -> None:
        """A signal came; called by the bus, must return at once."""
        if not self._settings.excludes(change.unit):
            self._heard.append(change)
            self._arrived.set()

    async def next_change(self) -> Change:
        """The next change of a unit's state; what only its service says is kept for it."""
        while True:
            while self._heard:
                change = self._heard.popleft()
                self._service.setdefault(change.unit, {}).update(change.properties)
                if change.interface == UNIT:
                    return change
            self._arrived.clear()
            await self._arrived.wait()

    async def catch_up(self) -> None:
        """Tell what happened while nobody listened; on a first run only take it in."""
        listed = [unit for unit in await self._bus.services() if not self._settings.excludes(unit.id)]
        in_use = [unit for unit in listed if unit.load_state == "loaded" and unit.active_state != "inactive"]
        self._told = {unit.id: self._told[unit.id] for unit in listed if unit.id in self._told}
        for unit in filter(
            None, await asyncio.gather(*(_details(self._bus, unit, _FOR_EVENTS) for unit in in_use))
        ):
            if self._first_run:
                self._told[unit.id] = baseline(unit)
            else:
                await self._compare(unit)
        self._keep()

    async def take(self, change: Change) -> None:
        """Tell what a change of a unit's state means."""
        new = {**self._service.pop(change.unit, {}), **change.properties}
        if "NRestarts" not in new or "ActiveState" not in new:
            try:
                new |= await self._bus.service_properties(change.path)
                new |= await self._bus.unit_properties(change.path, ("ActiveState", "SubState", *_FOR_EVENTS))
            except UnitGone:
                return
        listed = ListedUnit(
            change.unit,
            new.get("Description", ""),
            "loaded",
            new["ActiveState"],
            new["SubState"],
            change.path,
        )
        await self._compare(_unit(listed, new, new))

    async def _compare(self, unit: ServiceUnit) -> None:
        before = self._told.get(unit.id, Seen())
        after, told = changes(before, unit)
        for each in told:
            await self._emit(self._happening(unit, each))
        if after != before:
            self._told[unit.id] = after
            self._keep()

    def _happening(self, unit: ServiceUnit, told: Told) -> Happening:
        return Happening(
            type=told.type,
            resource_kind=ResourceKind.SERVICE,
            resource=unit.id,
            at=unit.changed_at_usec / 1e6 or self._context.wall_clock(),
            summary=_summary(unit, told),
            fields={
                "boot_id": self._context.boot_id,
                "result": unit.result,
                "exit_status": unit.exit_status,
                "sub_state": unit.sub_state,
                "restarts_total": unit.restarts,
                "count": told.count,
                "ended_usec": unit.ended_usec,
            },
        )

    def _note(self) -> _ToldNote | None:
        note = self._context.cursors.load(_TOLD_NOTE)
        try:
            return None if note is None else msgspec.json.decode(note, type=_ToldNote)
        except msgspec.DecodeError:
            return None

    def _keep(self) -> None:
        note = _ToldNote(self._context.boot_id, self._told)
        self._context.cursors.store(_TOLD_NOTE, msgspec.json.encode(note))


def _summary(unit: ServiceUnit, told: Told) -> str:
    ending = {
        1: f"exit status {unit.exit_status}",
        2: f"signal {unit.exit_status}",
        3: f"signal {unit.exit_status}",
    }
    how = ", ".join(filter(None, (unit.result, ending.get(unit.exit_code, ""))))
    match told.type:
        case "unit_failed":
            return f"{unit.id} failed: {how}" + ("; it will be started again" if unit.restart_waiting else "")
        case "unit_restarted":
            times = "" if told.count == 1 else f" {told.count} times"
            return f"systemd started {unit.id} again{times}; {unit.restarts} restarts so far"
        case "unit_oom_kill":
            return f"{unit.id} ended because the kernel killed one of its processes for want of memory"
