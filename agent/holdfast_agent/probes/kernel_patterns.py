"""What the kernel's own words mean: a table of log lines that tell of lost data, damage, failing devices.

Each row is made from a format string in the kernel's source (`source` says which), not from lines seen somewhere:
log text is no ABI, and this way a row covers what its `printk` can say, in 4.x to 6.x. Every expression is anchored at
the start of the line, because user space influences what comes later (process and file names).

The device is what the format string names, in a named group:

    dev     a block device (`%pg`, `s_id`, `disk_name`): sda1, dm-0, nvme0n1, loop3
    node    a path of one, as btrfs and ZFS print it: /dev/sda1
    number  major:minor
    scsi    host:channel:target:lun, to be found in sysfs
    process the process a node-wide line is about; such rows have no device

A row whose text names none gives UNNAMED.

Benign twins, and why nothing here matches them: queries that a device may refuse (discard, write-zeroes, pass-through,
SMART); empty drives (`sr0`, `fd0`); `sector 0` of a loop device, which the kernel still reads while snapd takes it
away; the farewell of a device that was pulled; announcements (`Shutdown timeout set to`, `Quota mode: none`); ext4's
daily reminder of old errors, which `filesystem_errors_total` carries.
"""

import re

from msgspec import Struct

from holdfast_agent.probes.kernel_pattern import DEV, NODE_WIDE, UNNAMED, KernelPattern
from holdfast_agent.probes.kernel_rows_devices import DEVICE_ROWS
from holdfast_agent.probes.kernel_rows_filesystems import FILESYSTEM_ROWS


class Meaning(Struct, frozen=True, kw_only=True):
    """What a line says."""

    pattern: KernelPattern
    device: str = ""
    """As the line names it, see the module; empty for what happens to the node."""
    kind: str = ""
    """`dev`, `node`, `number` or `scsi`: how to read `device`."""


PATTERNS: tuple[KernelPattern, ...] = (*FILESYSTEM_ROWS, *DEVICE_ROWS)
"""The first row that fits decides, so the narrower one of two stands first."""

_BEGUN = tuple(
    re.compile(expression)
    for expression in (
        rf"EXT4-fs \({DEV}\): (?:mounted|unmounting) filesystem ",
        rf"XFS \({DEV}\): (?:Mounting V\d|Unmounting )",
    )
)
"""ext4 says the end since 5.18 only."""


def meaning_of(text: str) -> Meaning | None:
    """What the line says, or None when it says nothing of ours."""
    for pattern in PATTERNS:
        match = pattern.expression.match(text)
        if match is None:
            continue
        if pattern.type in NODE_WIDE:
            return Meaning(pattern=pattern)
        for kind in ("dev", "node", "number", "scsi"):
            if named := match.groupdict().get(kind):
                return Meaning(pattern=pattern, device=named, kind=kind)
        return Meaning(pattern=pattern, device=UNNAMED, kind="dev")
    return None


def device_begun(text: str) -> str | None:
    """The device whose filesystem this line says begins or ends: whatever it gave up before no longer holds.

    Only filesystems with a row that `gives_up`.
    """
    match = next(filter(None, (expression.match(text) for expression in _BEGUN)), None)
    return match["dev"] if match else None
