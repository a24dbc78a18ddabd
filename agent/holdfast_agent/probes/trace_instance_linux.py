"""An instance of the kernel's tracing of our own, for one event; the buffer that people trace with is never touched.

A folder made in `instances` is a trace with a buffer of its own (Documentation/trace/ftrace.rst, Instances); to remove it
ends it. The kernel refuses that while its pipe is open, so what an agent that was killed left behind is swept by the
next one, and what another agent uses is not.

An instance begins with 1.4 MB for each processor (`trace_buf_size` in kernel/trace/trace.c), which we give back at once.
"""

import contextlib
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from holdfast_agent.errors import Denied, Unsupported

RIGHT = (
    "to be told of each request that fails takes the right to trace the kernel: root's, with /sys/kernel/tracing "
    "writable; without it `kernel_log` tells of the first few in five seconds"
)
_PREFIX = "holdfast-"
_BUFFER_KIB = "16"
"""For each processor: about 250 events; the oldest give way."""
_READ_BYTES = 65_536


def tracefs(sysfs: Path, event: str) -> Path:
    """Where tracing is found, with the event `system/name`. Raises Unsupported or Denied with what would help."""
    root = sysfs / "kernel" / "tracing"
    try:
        found = os.listdir(root)
    except FileNotFoundError:
        raise Unsupported("this kernel was built without tracing") from None
    except PermissionError:
        raise Denied(RIGHT) from None
    if "instances" not in found:
        raise Unsupported(f"tracing is not mounted: mount -t tracefs tracefs {root}")
    if not os.access(root / "instances", os.W_OK | os.X_OK):
        raise Denied(RIGHT)
    if not (root / "events" / event).is_dir():
        raise Unsupported(f"this kernel has no event {event.rpartition('/')[2]}")
    return root


class TraceInstance:
    """The event, as lines of text, until it is closed. Of one thread at a time."""

    descriptor: int
    """Readable when something was traced."""
    _folder: Path

    def __init__(self, root: Path, event: str) -> None:
        """Begin to trace. Raises Denied where the kernel refuses."""
        if sys.platform != "linux":
            raise Unsupported("only Linux traces so")
        self._folder = root / "instances" / f"{_PREFIX}{os.getpid()}"
        _sweep(root / "instances")
        self.descriptor = -1
        try:
            self._folder.mkdir()
            (self._folder / "buffer_size_kb").write_text(_BUFFER_KIB)
            with contextlib.suppress(OSError):  # wake with the first event; before 4.20 it always did
                (self._folder / "buffer_percent").write_text("0")
            self.descriptor = os.open(self._folder / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            (self._folder / "events" / event / "enable").write_text("1")
        except OSError as error:
            self.close()
            raise Denied(f"{RIGHT} ({error.strerror or error})") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self) -> str:
        """What was traced since; empty when nothing was."""
        try:
            return os.read(self.descriptor, _READ_BYTES).decode("utf-8", "replace")
        except BlockingIOError:
            return ""

    def close(self) -> None:
        """End the trace, and leave nothing."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        with contextlib.suppress(OSError):
            self._folder.rmdir()


def _sweep(instances: Path) -> None:
    """Remove what agents left that are no more."""
    for name in os.listdir(instances):
        if name.startswith(_PREFIX):
            with contextlib.suppress(OSError):  # somebody's who reads it
                (instances / name).rmdir()
