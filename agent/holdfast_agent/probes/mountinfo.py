"""The kernel's list of mounts and the administrator's: text → structs (proc_pid_mountinfo(5), fstab(5)).

    36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    (1)(2)(3)   (4)   (5)      (6)      (7)   (8) (9)   (10)         (11)

Field 6 are options of this mount, field 11 those of the filesystem (the superblock), which all its mounts share. They
differ: systemd's ProtectSystem makes mounts read-only that the filesystem is not, and a filesystem in emergency is dead
in field 11 only.
"""

import re

from msgspec import Struct

_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(Struct, frozen=True, kw_only=True):
    """One line of mountinfo."""

    mount_id: int = 0
    """Unique within one namespace while it is mounted; `fdinfo` names it."""
    number: str
    """major:minor of the device, the same for all mounts of one filesystem."""
    root: str
    """Which directory of the filesystem is mounted; `/` unless it is a bind mount, a subvolume or an export."""
    mountpoint: str
    options: tuple[str, ...]
    """Of this mount."""
    fstype: str
    source: str
    super_options: tuple[str, ...]
    """Of the filesystem."""

    @property
    def major(self) -> int:
        """0: no block device of its own (btrfs, network, memory)."""
        return int(self.number.partition(":")[0])


class FstabEntry(Struct, frozen=True, kw_only=True):
    """One line of fstab."""

    mountpoint: str
    fstype: str
    options: tuple[str, ...]


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """The mounts in the kernel's order; a line of another form is passed over."""
    mounts = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, filesystem = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or len(filesystem) < 3 or ":" not in fields[2]:
            continue
        mounts.append(
            Mount(
                mount_id=int(fields[0]) if fields[0].isdigit() else 0,
                number=fields[2],
                root=unescape(fields[3]),
                mountpoint=unescape(fields[4]),
                options=tuple(fields[5].split(",")),
                fstype=filesystem[0],
                source=unescape(filesystem[1]),
                super_options=tuple(unescape(" ".join(filesystem[2:])).split(",")),
            )
        )
    return tuple(mounts)


def parse_fstab(text: str) -> dict[str, FstabEntry]:
    """Mountpoint → entry; swap and entries that are not mounted anywhere are left out."""
    entries = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 4 or fields[0].startswith("#") or not fields[1].startswith("/"):
            continue
        mountpoint = unescape(fields[1]).rstrip("/") or "/"
        entries[mountpoint] = FstabEntry(
            mountpoint=mountpoint, fstype=fields[2], options=tuple(fields[3].split(","))
        )
    return entries


def unescape(field: str) -> str:
    """Space, tab, newline and backslash stand as three octal digits."""
    if "\\" not in field:
        return field
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
