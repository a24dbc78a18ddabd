"""The kernel log: what the kernel says of lost data, damage and failing devices, the moment it says it.

The watch follows /dev/kmsg. A cursor (boot id, sequence number) is moved only after `emit` has made an event durable,
so an agent that is killed loses nothing and starts where it left off; the same line may be reported twice, and then
carries the same `boot_id` and `kernel_seq`. Lines that were overwritten unread are an event of their own: what they
said is unknown. The text behind the types is `kernel_patterns`.

An agent that never ran on this machine finds its whole past in the log. What was said long ago of a device that is not
there any more is nobody's fault to mend, and is passed over.

The poll only shows whether the log can be read, so that blindness is seen.
"""

import asyncio
import os
import time

import msgspec
from msgspec import Struct

from holdfast_agent.pause import until
from holdfast_agent.probe import Emit, Happening, Observation, Poll, ProbeContext, Refresh, Signal, Watch
from holdfast_agent.probes.block_devices_linux import is_gone, name_of_number, name_of_path, name_of_scsi
from holdfast_agent.probes.kernel_pattern import NODE_WIDE, UNNAMED, KernelEvent
from holdfast_agent.probes.kernel_patterns import Meaning, meaning_of
from holdfast_agent.probes.kmsg import KmsgRecord
from holdfast_agent.probes.kmsg_device_linux import KmsgGap, KmsgReader, open_kmsg
from holdfast_agent.probes.storm import Held, StormLimiter
from holdfast_wire.fact import ResourceKind

_CURSOR = "position"
_RECORDS_PER_TURN = 256
"""How many lines are read before other work of the event loop gets its turn: some milliseconds' worth."""
_PAST_SECONDS = 600.0
"""A device that failed and vanished later than this before the first start is news: somebody may be looking for it."""


class _Position(Struct, frozen=True):
    """The cursor's note: everything up to `seq` of this boot is reported."""

    boot_id: str
    seq: int


class KernelLogRaw(Struct, frozen=True):
    """Nothing but that the log could be opened."""

    path: str


class KernelLine(Struct, frozen=True):
    """A line with a meaning, when it was said, and the device by its kernel name."""

    record: KmsgRecord
    text: str
    meaning: Meaning
    device: str
    at: float


class KernelLog(Poll[KernelLogRaw], Watch):
    """The kernel log, read from where the last run ended."""

    name = "kernel_log"
    platforms = frozenset({"linux"})
    cost = "lost writes, damaged filesystems and failing disks stay unknown unless something else stumbles over them"
    period_seconds = 60.0
    events = (*KernelEvent, "kernel_log_gap")
    told_by = (Signal(by="a line of the kernel log", events=events),)

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        self._path = context.rootfs / "dev" / "kmsg"
        self._storm: StormLimiter[KernelLine] = StormLimiter()
        self._first_look = False

    def check(self) -> None:
        os.close(open_kmsg(self._path))

    def read(self) -> KernelLogRaw:
        self.check()
        return KernelLogRaw(str(self._path))

    def interpret(self, raw: KernelLogRaw) -> Observation:
        return Observation()

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Follow the log until cancelled."""
        descriptor = open_kmsg(self._path)
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._storm = StormLimiter()
        reported = self._reported_until()
        self._first_look = reported is None
        try:
            loop.add_reader(descriptor, readable.set)
            await self._follow(KmsgReader(descriptor, reported), readable, emit)
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def _follow(self, reader: KmsgReader, readable: asyncio.Event, emit: Emit) -> None:
        previous = ""
        while True:
            readable.clear()
            for count, found in enumerate(reader.read_available(), 1):
                match found:
                    case KmsgGap():
                        await emit(self._gap(found))
                    case KmsgRecord():
                        previous = await self._take(found, previous, emit)
                if count % _RECORDS_PER_TURN == 0:
                    self._keep_position(reader.newest)
                    await asyncio.sleep(0)
            await self._report(self._storm.due(time.monotonic()), emit)
            self._keep_position(reader.newest)
            await until(
                readable, self._storm.next_due_seconds(time.monotonic())
            )  # or until a storm's window has ended

    async def _take(self, record: KmsgRecord, previous: str, emit: Emit) -> str:
        """Report the record if it means something; returns the text that a fragment after it would continue."""
        if not record.from_kernel:
            return ""
        text = previous + record.text if record.fragment else record.text
        meaning = meaning_of(text)
        if meaning is None or (record.fragment and meaning_of(previous) is not None):
            return text
        line = KernelLine(record, text, meaning, self._device(meaning), self._at(record))
        if self._first_look and self._is_past(line):
            return text
        await self._report(
            self._storm.offer(f"{meaning.pattern.type} {line.device}", line, time.monotonic()), emit
        )
        return text

    async def _report(self, lines: list[Held[KernelLine]], emit: Emit) -> None:
        for held in lines:
            await emit(self._happening(held.item, held.suppressed))

    def _happening(self, line: KernelLine, suppressed: int) -> Happening:
        type_ = line.meaning.pattern.type
        node_wide = type_ in NODE_WIDE
        return Happening(
            type=type_,
            resource_kind=ResourceKind.NODE if node_wide else ResourceKind.DEVICE,
            resource=self.context.node if node_wide else line.device,
            at=line.at,
            summary=line.text.replace("\n", " ").strip()[:1000],
            fields={
                "boot_id": self.context.boot_id,
                "kernel_seq": line.record.seq,
                "level": line.record.level,
                "pattern": line.meaning.pattern.name,
                "suppressed": suppressed,
            },
        )

    def _gap(self, gap: KmsgGap) -> Happening:
        return Happening(
            type="kernel_log_gap",
            resource_kind=ResourceKind.NODE,
            resource=self.context.node,
            at=self.context.wall_clock(),
            summary=f"{gap.lost} kernel log records were overwritten before they were read",
            fields={"boot_id": self.context.boot_id, "kernel_seq": gap.next_seq, "lost": gap.lost},
        )

    def _device(self, meaning: Meaning) -> str:
        named, sysfs = meaning.device, self.context.sysfs
        match meaning.kind:
            case "number":
                return name_of_number(sysfs, named) or named
            case "scsi":
                return name_of_scsi(sysfs, named) or named
            case "node":
                return name_of_path(named)
            case _:
                return named

    def _is_past(self, line: KernelLine) -> bool:
        if line.meaning.pattern.type in NODE_WIDE or line.device == UNNAMED:
            return False
        old = self.context.wall_clock() - line.at > _PAST_SECONDS
        return old and is_gone(self.context.sysfs, line.device)

    def _at(self, record: KmsgRecord) -> float:
        # printk's clock is the scheduler's, which stands still in suspend just as the monotonic one does.
        return self.context.wall_clock() - max(0.0, time.monotonic() - record.usec / 1e6)

    def _reported_until(self) -> int | None:
        """The newest reported record of this boot; -1 at the start of a new boot; None when never anything was."""
        note = self.context.cursors.load(_CURSOR)
        if note is None:
            return None
        try:
            position = msgspec.json.decode(note, type=_Position)
        except msgspec.DecodeError:
            return None
        return position.seq if position.boot_id == self.context.boot_id else -1

    def _keep_position(self, newest: int) -> None:
        """Note what is reported. What a storm holds back is not: after a crash it is read again."""
        held = [line.record.seq - 1 for line in self._storm.first_held()]
        seq = min([newest, *held])
        self.context.cursors.store(_CURSOR, msgspec.json.encode(_Position(self.context.boot_id, seq)))
