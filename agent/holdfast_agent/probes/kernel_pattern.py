"""What a row of the table of kernel lines is; the table and its reading stand in `kernel_patterns`."""

import re
from enum import StrEnum

from msgspec import Struct


class KernelEvent(StrEnum):
    """The event types of `holdfast_wire.fact.EVENT_TYPES` that a kernel line can be."""

    DATA_LOSS = "kernel_data_loss"
    FILESYSTEM_ERROR = "kernel_filesystem_error"
    IO_ERROR = "kernel_io_error"
    DEVICE_RESET = "kernel_device_reset"
    RECOVERY = "kernel_recovery"
    HUNG_TASK = "kernel_hung_task"
    OOM_KILL = "kernel_oom_kill"
    VM_FORK = "kernel_vm_fork"


UNNAMED = "unknown"
"""The device of a line that names none."""

DATA_LOSS = KernelEvent.DATA_LOSS
FILESYSTEM_ERROR = KernelEvent.FILESYSTEM_ERROR
IO_ERROR = KernelEvent.IO_ERROR
DEVICE_RESET = KernelEvent.DEVICE_RESET
RECOVERY = KernelEvent.RECOVERY
NODE_WIDE = frozenset({KernelEvent.HUNG_TASK, KernelEvent.OOM_KILL, KernelEvent.VM_FORK})
"""These happen to the node, not to a device."""


class KernelPattern(Struct, frozen=True, kw_only=True):
    """One kind of line."""

    name: str
    """Stable; goes with the event, so that a rule or a person can tell rows of one type apart."""
    type: KernelEvent
    expression: re.Pattern[str]
    source: str
    """The kernel file, and the format string where the expression does not show it."""
    because: str
    """Why it is of this type."""
    gives_up: bool = False
    """The filesystem takes no more writes until it is unmounted, and its mount options may not show it."""


def row(
    name: str, type_: KernelEvent, expression: str, source: str, because: str, *, gives_up: bool = False
) -> KernelPattern:
    """A row; the expression is anchored at the start by whoever matches it."""
    return KernelPattern(
        name=name,
        type=type_,
        expression=re.compile(expression),
        source=source,
        because=because,
        gives_up=gives_up,
    )


DEV = r"(?P<dev>[\w!-]+)"
"""A block device by its kernel name; `!` stands for a slash (cciss!c0d0)."""
NUMBER = r"(?P<number>\d+:\d+)"
