"""Requests to block devices that failed, each of them, as the kernel traces it (catalogue A-37).

The tracepoint `block_rq_error` (since Linux 5.18) comes with the line `I/O error, dev …` of the kernel log, but is not
held back: the log takes ten such lines in five seconds from all devices together, and none where it may not be read.
So this counts what that only samples. It sees what runs through a queue of requests – SCSI, SATA, NVMe, virtio, loop –
and not what is mapped on top of that.

While a disk dies the trace is read once a second. What the buffer does not hold until then is not counted: the count is
never too high.
"""

import asyncio
import contextlib
import errno
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct, field

from holdfast_agent.probe import Emit, NoData, Observation, Poll, ProbeContext, Refresh, Signal, Watch
from holdfast_agent.probes.block_devices_linux import name_of_number
from holdfast_agent.probes.trace_instance_linux import TraceInstance, tracefs
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind

EVENT = "block/block_rq_error"
_LINE = re.compile(
    r": block_rq_error: (?P<major>\d+),(?P<minor>\d+) (?P<operation>[A-Z]+) \(.*?\) "
    r"(?P<sector>\d+) \+ (?P<sectors>\d+) .*\[-?(?P<error>\d+)\]$",
    re.MULTILINE,
)
"""As the event's format file prints it; newer kernels have the priority of the request before the error."""
_OPERATIONS = {"R": "read", "W": "write", "D": "discard", "Z": "zone operation"}
"""Letters of `blk_fill_rwbs` (kernel/trace/blktrace.c); what has none of them carries a flush only."""
_PACE_SECONDS = 1.0
_NO_QUEUE = ("dm-", "md", "ram", "zram")


class FailedRequest(Struct, frozen=True):
    """One line of the trace."""

    number: str
    """The device's, `major:minor`."""
    said: str


class Failures(Struct, frozen=True):
    """What a device's requests came to since the trace began."""

    count: int = 0
    newest: str = ""


class RequestErrorsRaw(Struct, frozen=True, kw_only=True):
    """The count."""

    failures: dict[str, Failures] = field(default_factory=dict)
    """Device → failed requests, of every device with a queue."""


class RequestErrors(Poll[RequestErrorsRaw], Watch):
    """Failed requests, device by device."""

    name = "request_errors"
    platforms = frozenset({"linux"})
    cost = "of many requests that fail at once only the few are known that the kernel log tells of"
    period_seconds = 30.0
    emits = (("device", "request_errors_total"), ("device", "request_error_last"))
    told_by = (Signal(by="the kernel's trace of a failed request", facts=emits),)

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        self._failures: dict[str, Failures] = {}
        self._counting = False
        self._lock = threading.Lock()

    def check(self) -> None:
        tracefs(self.context.sysfs, EVENT)

    def read(self) -> RequestErrorsRaw:
        self.check()
        if not self._counting:
            raise NoData("failed requests are counted while the agent runs")
        with self._lock:
            failures = dict(self._failures)
        return RequestErrorsRaw(failures={name: Failures() for name in self._queues()} | failures)

    def interpret(self, raw: RequestErrorsRaw) -> Observation:
        return Observation(
            resources=[
                Resource(
                    kind=ResourceKind.DEVICE,
                    name=name,
                    facts={"request_errors_total": each.count, "request_error_last": each.newest},
                )
                for name, each in sorted(raw.failures.items())
            ]
        )

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Count, and have the count looked at when it grows."""
        with await self._traced() as trace:
            self._counting = True
            refresh()
            try:
                while True:
                    await _readable(trace.descriptor)
                    if self.take(trace.read()):
                        refresh()
                    await asyncio.sleep(_PACE_SECONDS)
            finally:
                self._counting = False

    async def _traced(self) -> TraceInstance:
        """A trace that has begun. In a thread: with many processors the buffers take a while."""
        root = tracefs(self.context.sysfs, EVENT)
        beginning = asyncio.get_running_loop().run_in_executor(None, TraceInstance, root, EVENT)
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            beginning.add_done_callback(_close_late)
            raise

    def take(self, text: str) -> bool:
        """Count what a piece of the trace tells; whether that is anything."""
        found = list(failed_requests(text))
        with self._lock:
            for request in found:
                name = name_of_number(self.context.sysfs, request.number) or request.number
                before = self._failures.get(name, Failures())
                self._failures[name] = Failures(before.count + 1, request.said)
        return bool(found)

    def _queues(self) -> list[str]:
        """The devices that have a queue of requests; a loop device without a file is a name only."""
        block = self.context.sysfs / "block"
        with contextlib.suppress(OSError):
            return [
                name
                for name in os.listdir(block)
                if not name.startswith(_NO_QUEUE) and (not name.startswith("loop") or _backed(block / name))
            ]
        return []


def failed_requests(text: str) -> Iterator[FailedRequest]:
    """The requests that lines of trace_pipe tell of; other lines, as of lost events, are passed over."""
    for found in _LINE.finditer(text):
        operation = next(
            (word for letter, word in _OPERATIONS.items() if letter in found["operation"]), "flush"
        )
        code = int(found["error"])
        name = errno.errorcode.get(code, str(code))
        where = f" of {found['sectors']} sectors at {found['sector']}" if found["sectors"] != "0" else ""
        yield FailedRequest(f"{found['major']}:{found['minor']}", f"{operation}{where}: {name}")


def _backed(loop_device: Path) -> bool:
    return (loop_device / "loop").is_dir()


async def _readable(descriptor: int) -> None:
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(descriptor)


def _close_late(beginning: "asyncio.Future[TraceInstance]") -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.result().close()
