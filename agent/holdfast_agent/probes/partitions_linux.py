"""Which block devices have a size, in one read.

Hundreds of loop devices may be left of earlier use; to ask each in sysfs whether a file is behind it costs 9 µs a device and look.
"""

from pathlib import Path

from holdfast_agent.probes.mounted_linux import text_of


def sized_devices(procfs: Path) -> set[str]:
    """The kernel's names, of disks and partitions. A loop device without a file, or an empty drive, is not among them
    (show_partition in block/genhd.c), nor is one that is hidden."""
    return {line.rpartition(" ")[2] for line in text_of(procfs / "partitions").splitlines()}
