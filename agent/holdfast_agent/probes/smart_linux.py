"""SMART and NVMe health records, as change from a baseline.

A disk's counts of errors begin anywhere; what matters is that they grow. The agent notes them by day and tells the growth
over the last seven days, or since it first saw the disk. Reading a record takes rights over devices that the agent
does not have, so another unit asks (`device_answers_linux`). An NVMe also tells by itself (`nvme_events_linux`): that is an
event at once, and has an agent that asks by itself ask again. Virtual disks keep no record: that is said as such and is
neither health nor failure.
"""

import asyncio
import contextlib

import msgspec
from msgspec import Struct

from holdfast_agent.errors import Denied, ProbeStop
from holdfast_agent.probe import (
    Emit,
    Happening,
    Lag,
    NoData,
    Observation,
    Poll,
    ProbeContext,
    Refresh,
    Signal,
    Watch,
)
from holdfast_agent.probes.device_answers_linux import (
    PERIOD_SECONDS,
    SMART_PERIOD_SECONDS,
    Answers,
    DeviceAnswers,
    ask_smart,
    smart_disks,
)
from holdfast_agent.probes.nvme_events_linux import NvmeWarning, disks_of, warning_in
from holdfast_agent.probes.smart_facts import LOGGED, Baseline, grown, grown_since, understood
from holdfast_agent.probes.sysfs_linux import names_in
from holdfast_agent.probes.uevent_linux import Uevent, take, uevents
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_NOTE = "baseline"
_NO_RECORD = "a virtual disk keeps no health record; ask the host or the cloud"


class SmartRaw(Struct, frozen=True, kw_only=True):
    """What smartctl said of each disk."""

    answers: Answers
    virtual: list[str] = []
    """Disks of a kind that cannot have a record: virtio, Xen."""
    denied: str = ""
    """Why the others could not be asked; empty when they were."""
    at: float
    """Unix seconds: which day it is."""


class Smart(Poll[SmartRaw], Watch):
    """Health records of disks."""

    name = "smart"
    platforms = frozenset({"linux"})
    cost = "a disk that foretells its failure is not heard"
    period_seconds = 300.0
    timeout_seconds = 60.0
    emits = tuple(
        ("device", fact)
        for fact in (
            "smart_available", "smart_unavailable_reason", "smart_passed", "smart_failing", "smart_failing_reason", "smart_reallocated_sectors",
            "smart_reported_uncorrectable", "smart_command_timeouts", "smart_pending_sectors",
            "smart_offline_uncorrectable", "smart_bad_attributes", "smart_media_errors", "smart_new_errors",
            "smart_logged_errors", "smart_new_logged_errors",
            "nvme_spare_low", "nvme_too_hot", "nvme_reliability_degraded", "nvme_media_read_only",
            "nvme_backup_failed", "wear_ratio", "unsafe_shutdowns_total", "power_on_seconds",
            "temperature_celsius", "drive_cache_enabled",
        )
    )  # fmt: skip
    lags = (
        Lag(by="smartctl is asked once an hour", facts=emits, seconds=SMART_PERIOD_SECONDS + PERIOD_SECONDS),
    )

    events = ("nvme_warning",)
    told_by = (Signal(by="an NVMe's asynchronous event", events=events),)

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        self._answers = DeviceAnswers(context, "smart", lambda before: ask_smart(before, context.sysfs))

    def read(self) -> SmartRaw:
        block = self.context.sysfs / "block"
        virtual = [*names_in(block, "vd*"), *names_in(block, "xvd*")]
        disks = smart_disks(self.context.sysfs)
        answers, denied = Answers(), ""
        if disks:
            try:
                answers = self._answers.get(2 * SMART_PERIOD_SECONDS + PERIOD_SECONDS)
            except Denied as stop:
                denied = stop.reason
        return SmartRaw(answers=answers, virtual=virtual, denied=denied, at=self.context.wall_clock())

    def interpret(self, raw: SmartRaw) -> Observation:
        if raw.denied and not raw.virtual:
            raise Denied(raw.denied)
        missing: dict[str, str] = {"smart_passed": raw.denied} if raw.denied else {}
        baselines, resources = self._load(), []
        for disk, answer in sorted(raw.answers.items()):
            reading = understood(answer)
            facts: dict[str, Value] = dict(reading.facts)
            growth, baseline = grown(baselines.get(disk, Baseline()), reading, int(raw.at // 86_400))
            if growth is not None:
                facts["smart_new_errors"] = growth
            if (logged := grown_since(baseline, reading, LOGGED)) is not None:
                facts["smart_new_logged_errors"] = logged
            if baseline.days:
                baselines[disk] = baseline
            if reading.trouble:
                missing[f"{disk}.smart_passed"] = reading.trouble
            if facts:
                resources.append(Resource(kind=ResourceKind.DEVICE, name=disk, facts=facts))
        for disk in raw.virtual:
            without: dict[str, Value] = {"smart_available": False, "smart_unavailable_reason": _NO_RECORD}
            resources.append(Resource(kind=ResourceKind.DEVICE, name=disk, facts=without))
        if not resources and not missing:
            raise NoData("there is no disk")
        self.context.cursors.store(_NOTE, msgspec.json.encode(baselines))
        return Observation(resources=resources, missing=missing)

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Report what an NVMe tells of its health, and ask it again."""
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[NvmeWarning] = asyncio.Queue()

        def heard(event: Uevent) -> None:
            if (warning := warning_in(event)) is not None:
                told.put_nowait(warning)

        with contextlib.ExitStack() as held:
            try:
                listener = held.enter_context(uevents())
            except ProbeStop:
                pass  # the records tell it, only later
            else:
                loop.add_reader(listener.fileno(), take, listener, heard)
                held.callback(loop.remove_reader, listener.fileno())
            while True:
                warning = await told.get()
                for disk in disks_of(self.context.sysfs, warning.controller):
                    self._answers.forget(disk)
                    await emit(self._happening(disk, warning))
                refresh()

    def _happening(self, disk: str, warning: NvmeWarning) -> Happening:
        return Happening(
            type="nvme_warning",
            resource_kind=ResourceKind.DEVICE,
            resource=disk,
            at=self.context.wall_clock(),
            summary=f"{warning.controller} says that {warning.words}",
            fields={
                "boot_id": self.context.boot_id,
                "controller": warning.controller,
                "event": warning.number,
            },
        )

    def _load(self) -> dict[str, Baseline]:
        try:
            return msgspec.json.decode(self.context.cursors.load(_NOTE) or b"{}", type=dict[str, Baseline])
        except msgspec.DecodeError:
            return {}
