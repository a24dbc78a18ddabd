"""Which filesystems the kernel has given up, by its own log: the only sign of it on some kernels."""

import os
import weakref
from pathlib import Path

from holdfast_agent.probe import ProbeStop
from holdfast_agent.probes.kernel_pattern import KernelEvent
from holdfast_agent.probes.kernel_patterns import device_begun, meaning_of
from holdfast_agent.probes.kmsg import KmsgRecord
from holdfast_agent.probes.kmsg_device_linux import KmsgGap, KmsgReader, open_kmsg


class GivenUp:
    """Follows the kernel log from poll to poll: which devices' filesystems it gave up."""

    def __init__(self, path: Path, *, reader: KmsgReader | None = None) -> None:
        self._path = path
        self._reader = reader
        self.devices: dict[str, str] = {}
        self.unreadable = ""

    def follow(self) -> None:
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
