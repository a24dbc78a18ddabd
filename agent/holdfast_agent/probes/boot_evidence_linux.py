"""Gathers what the previous run left behind: kernel log, fsck, journal, wtmp, pstore, kdump."""

import os
import shutil
import subprocess
from pathlib import Path

from holdfast_agent.probe import ProbeStop
from holdfast_agent.probes.boot_evidence import BOOTING_SECONDS, BootEvidence
from holdfast_agent.probes.kernel_pattern import RECOVERY
from holdfast_agent.probes.kernel_patterns import meaning_of
from holdfast_agent.probes.kmsg import KmsgRecord
from holdfast_agent.probes.kmsg_device_linux import KmsgReader, open_kmsg
from holdfast_agent.probes.wtmp import WtmpRecord, parse_wtmp, record_bytes

_JOURNAL_SECONDS = 4.0
_JOURNAL_BYTES_MAX = 1 << 20
_WTMP_BYTES_MAX = 4 << 20
"""The newest ten thousand records: years of a server's logins."""


_DUMPS = ("vmcore", "dmesg.", "dump.")
"""How kdump-tools and RHEL's kdump name what they write below /var/crash; what else lies there is of crashed programs."""


def gather_boot_evidence(
    rootfs: Path, sysfs: Path, *, machine: str, booted_at: float, previous_boot_id: str
) -> BootEvidence:
    """All traces that can be read. Runs journalctl, so it may take seconds.

    `previous_boot_id` is the boot before as far as the agent knows it, else empty: a boot whose journal is lost must
    not be mistaken for the one before it.
    """
    unreadable: dict[str, str] = {}
    journal = _Journal(rootfs, unreadable)
    said = journal.lines("-b", "SYSLOG_IDENTIFIER=systemd-journald", "SYSLOG_IDENTIFIER=systemd-fsck")
    # systemd logs the unit a message is about as UNIT=, and only process 1 can have _PID=1.
    ended = journal.lines("-b", previous_boot_id or "-1", "-n", "1", "_PID=1", "UNIT=shutdown.target")
    return BootEvidence(
        booted_at=booted_at,
        replayed=[
            *_replayed_by_kernel(rootfs / "dev" / "kmsg", unreadable),
            *_replayed_by_fsck(rootfs / "run" / "initramfs" / "fsck.log"),
            *(f"fsck: {line}" for line in said if line.endswith("recovering journal")),
        ],
        journal_unclean=[line for line in said if "uncleanly shut down" in line],
        journal_shutdown=ended[-1] if ended else "",
        wtmp=_wtmp(rootfs / "var" / "log" / "wtmp", machine, unreadable),
        crashes=[
            *_crashes(sysfs / "fs" / "pstore", unreadable),
            *_crashes(rootfs / "var" / "lib" / "systemd" / "pstore", {}),
            *_crashes(rootfs / "var" / "crash", {}, _DUMPS),
        ],
        unreadable=unreadable,
    )


def _replayed_by_kernel(path: Path, unreadable: dict[str, str]) -> list[str]:
    try:
        descriptor = open_kmsg(path)
    except ProbeStop as stop:
        unreadable["kernel log"] = stop.reason
        return []
    try:
        reader = KmsgReader(descriptor, after=None)
        records = (found for found in reader.read_available() if isinstance(found, KmsgRecord))
        return [record.text for record in records if _replay_at_boot(record)]
    except OSError as error:
        unreadable["kernel log"] = str(error)
        return []
    finally:
        os.close(descriptor)


def _replay_at_boot(record: KmsgRecord) -> bool:
    if not record.from_kernel or record.usec > BOOTING_SECONDS * 1e6:
        return False
    meaning = meaning_of(record.text)
    return meaning is not None and meaning.pattern.type is RECOVERY


def _replayed_by_fsck(log: Path) -> list[str]:
    """The root filesystem is checked before systemd runs; initramfs-tools keeps what fsck said."""
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [f"fsck: {line}" for line in lines if line.endswith("recovering journal")]


class _Journal:
    """The journal below a root folder, read by journalctl: its file format is systemd's own."""

    def __init__(self, rootfs: Path, unreadable: dict[str, str]) -> None:
        self._program = shutil.which("journalctl", path="/usr/bin:/bin")
        self._place = [] if rootfs == Path("/") else [f"--root={rootfs}"]
        self._unreadable = unreadable

    def lines(self, *arguments: str) -> list[str]:
        """The messages found; none where there is no journal, or no such boot in it."""
        if self._program is None:
            self._unreadable["journal"] = "there is no journalctl"
            return []
        try:
            done = subprocess.run(
                [self._program, "-q", "--no-pager", "-o", "cat", *self._place, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_JOURNAL_SECONDS,
                env={"LC_ALL": "C"},
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self._unreadable["journal"] = str(error)
            return []
        if b"ermission" in done.stderr:
            self._unreadable["journal"] = "make the agent a member of the group systemd-journal"
        return done.stdout[:_JOURNAL_BYTES_MAX].decode("utf-8", "replace").splitlines()


def _wtmp(path: Path, machine: str, unreadable: dict[str, str]) -> list[WtmpRecord]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _WTMP_BYTES_MAX))
            return parse_wtmp(file.read(), record_bytes(machine))[-20:]
    except OSError as error:
        unreadable["wtmp"] = error.strerror or str(error)
        return []


def _crashes(folder: Path, unreadable: dict[str, str], names: tuple[str, ...] = ("dmesg",)) -> list[float]:
    """When the crash records below `folder` were written, whose names begin so; the kernel names its own dmesg-…, whatever
    holds them."""
    found = []
    try:
        for place, folders, files in os.walk(folder, onerror=_raise):
            folders[:] = folders if len(Path(place).relative_to(folder).parts) < 2 else []
            found += [os.stat(Path(place) / name).st_mtime for name in files if name.startswith(names)]
    except FileNotFoundError:
        pass  # no pstore, or nothing archived
    except OSError as error:
        unreadable["pstore"] = error.strerror or str(error)
    return found


def _raise(error: OSError) -> None:
    raise error
