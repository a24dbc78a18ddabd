"""Which filesystems the kernel has given up, by its own log: the only sign of it on some kernels.

The line that says that a filesystem is mounted anew may be missing: ext4 writes ten in five seconds and no more
(`ext4_mount_msg_ratelimit`, fs/ext4/super.c), and btrfs may come after it on the same device. So a death also ends with the folder that
sysfs has for the mounted filesystem: each mount makes a new one, and kernfs gives no inode number twice in a boot.
"""

import os
import weakref
from pathlib import Path

from holdfast_agent.probe import ProbeStop
from holdfast_agent.probes.kernel_pattern import KernelEvent
from holdfast_agent.probes.kernel_patterns import device_begun, meaning_of
from holdfast_agent.probes.kmsg import KmsgRecord
from holdfast_agent.probes.kmsg_device_linux import KmsgGap, KmsgReader, open_kmsg

_SAYS = (("ext4", "EXT4-fs "), ("xfs", "XFS "))
"""Whose words a line is: only these two have rows that give up."""


class GivenUp:
    """Follows the kernel log from poll to poll: which devices' filesystems it gave up."""

    def __init__(self, path: Path, *, reader: KmsgReader | None = None, sysfs: Path = Path("/sys")) -> None:
        self._path = path
        self._reader = reader
        self._sysfs = sysfs
        self._lives: dict[str, tuple[str, int] | None] = {}
        """Device → which filesystem was mounted from it when its death was read: type and inode; None: not to be seen."""
        self.devices: dict[str, str] = {}
        self.unreadable = ""

    def follow(self) -> None:
        """Read what the log has to say since the last time."""
        self._bury()
        self._listen()
        for device in self.devices.keys() - self._lives.keys():
            self._lives[device] = self._life(device)
        self._lives = {device: self._lives[device] for device in self.devices}
        for device, life in self._lives.items():
            if life is not None and _speaker(self.devices[device]) not in ("", life[0]):
                del self.devices[device]

    def _bury(self) -> None:
        """Forget the deaths of filesystems that are mounted no more, or anew."""
        for device, life in self._lives.items():
            if life is not None and self._life(device) != life:
                self.devices.pop(device, None)
        self._lives = {device: life for device, life in self._lives.items() if device in self.devices}

    def _life(self, device: str) -> tuple[str, int] | None:
        folders = [(kind, self._sysfs / "fs" / kind / device) for kind in ("ext4", "xfs")]
        members = self._sysfs.glob(f"fs/btrfs/*/devices/{device}")
        folders += [("btrfs", member.parent.parent) for member in members]
        for kind, folder in folders:
            try:
                return kind, folder.stat().st_ino
            except OSError:
                continue
        return None

    def _listen(self) -> None:
        try:
            if self._reader is None:
                descriptor = open_kmsg(self._path)
                weakref.finalize(self, os.close, descriptor)
                self._reader = KmsgReader(descriptor, after=None)
            for found in self._reader.read_available():
                if isinstance(found, KmsgGap):
                    # A later mount may be among what was lost, and an old death must not be told for ever.
                    self.devices.clear()
                elif found.from_kernel:
                    self._take(found)
            self.unreadable = ""
        except ProbeStop as stop:
            self.unreadable = stop.reason
        except OSError as error:
            self.unreadable = str(error)

    def _take(self, record: KmsgRecord) -> None:
        if device := device_begun(record.text):
            self.devices.pop(device, None)
            return
        meaning = meaning_of(record.text)
        if meaning is not None and meaning.pattern.gives_up:
            self.devices.setdefault(meaning.device, record.text.strip()[:200])


def _speaker(words: str) -> str:
    return next((kind for kind, beginning in _SAYS if words.startswith(beginning)), "")


def speaks_of_filesystems(reader: KmsgReader) -> bool:
    """Whether a new line tells of a filesystem's death, damage or mount; reads all that is there."""
    return sum(_tells(found) for found in reader.read_available()) > 0


def _tells(found: KmsgRecord | KmsgGap) -> bool:
    if isinstance(found, KmsgGap) or not found.from_kernel:
        return False
    meaning = meaning_of(found.text)
    if meaning is not None:
        return meaning.pattern.type in (KernelEvent.DATA_LOSS, KernelEvent.FILESYSTEM_ERROR)
    return device_begun(found.text) is not None
