"""One volume's chain as it is kept: read back, appended to, begun anew. Blocks; for the keeper's thread alone.

A failed append is never tried again in its slot and never told; the flag it leaves goes only when the volume was
mounted anew and read back without fault. That a filesystem refuses to take a write at all (full, read-only, not
permitted) breaks no promise: it is said as the newest append's error, and leaves no flag.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct, structs

from holdfast_agent.core.chain import SLOT_BYTES, instance_digest, ring_bytes
from holdfast_agent.core.chain_writer import Answer, ChainWriter, Moment
from holdfast_agent.core.testimony import Confirmed, ReadBack, Testimony
from holdfast_agent.identity import Standing
from holdfast_agent.probe import boot_clock
from holdfast_agent.probes.block_devices_linux import name_of_number, name_of_path
from holdfast_agent.witness.chain_store import ChainStore, NoPlace
from holdfast_agent.witness.host_linux import host_digest
from holdfast_agent.witness.identity_linux import SYSFS, device_id, filesystem_id
from holdfast_agent.witness.ring_file_linux import (
    AppendFailed,
    RingAppender,
    RingMoved,
    RingRead,
    error_name,
    mount_holding,
    sync_filesystem,
)
from holdfast_agent.witness.volume_standing import StandingBoard
from holdfast_agent.witness.witness_choice import WitnessedVolume
from holdfast_wire import Expected, Machine, ReadCause, VolumeIdentity

REFUSED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})
DIRTY_BYTES_MAX = 64 << 20
"""syncfs writes out the whole filesystem; with more than this waiting we would be what delays others."""


class Who(Struct, frozen=True, kw_only=True):
    """Who writes, in this run of the agent."""

    install_id: str
    boot_id: str
    epoch: int
    machine: Machine

    @classmethod
    def of(cls, standing: Standing, machine: Machine) -> "Who":
        return cls(
            install_id=standing.install_id,
            boot_id=standing.boot_id,
            epoch=standing.epoch,
            machine=machine,
        )


class VolumeChain:
    """See the module."""

    def __init__(
        self,
        volume: WitnessedVolume,
        who: Who,
        remembered_chain_id: str,
        say: Callable[[Testimony], None],
        board: StandingBoard,
    ) -> None:
        """`remembered_chain_id`: of the chain this volume had when the agent last ran; empty if none is known."""
        self._volume = volume
        self._who = who
        self._remembered = remembered_chain_id
        self._say = say
        self._board = board
        self._store = ChainStore(volume, who.install_id)
        self._writer: ChainWriter | None = None
        self._appender: RingAppender | None = None
        self._mount_id = 0
        self._failed_on_mount = 0
        self._metadata_seq = 0
        self._absence_told = False
        self._machine = who.machine
        """As of the newest reading: the host changes without a boot."""

    @property
    def open(self) -> bool:
        """Whether there is a chain to append to."""
        return self._writer is not None

    # Reading

    def read(self, cause: ReadCause) -> None:
        """Read the chain back from the medium, say what was found, and go on from there; begin one where there is none."""
        known = self._writer.chain_id if self._writer is not None else self._remembered
        self._machine = structs.replace(self._who.machine, host=host_digest())
        try:
            with self._busy():
                mount_id = mount_holding(Path(self._volume.path), self._volume.number)
                if cause is ReadCause.MOUNT and self._writer is not None and mount_id == self._mount_id:
                    cause = ReadCause.CHANGED
                self._mount_id = mount_id
                if not self._mount_id:
                    self._close("it is not mounted there any more")
                    return
                identity = self._identity()
                read = self._store.read(known)
                others = self._store.read_of_others() if read is None else []
        except OSError as error:
            self._unreadable(cause, known, error)
            return
        if read is None:
            self._tell_absence(identity, cause, others)
            self._begin(identity, known)
            return
        head = read.found.head
        if self._writer is None and head is not None and head.boot_id != self._who.boot_id[:64]:
            cause = ReadCause.BOOT
        self._go_on(read, second=cause is ReadCause.AGAIN)
        if read.flush_errno:
            self._failed(read.flush_errno, "fdatasync before reading", lost=read.flush_errno not in REFUSED)
        self._tell(identity, read, cause, self._store.metadata_count(read.found.chain_id))
        if read.found.header is None:
            self._begin(identity, known)  # nothing is built upon what is damaged

    def begin_anew(self) -> None:
        """Put the chain aside as evidence and begin another."""
        with self._busy():
            identity = self._identity()
        self._begin(identity, self._writer.chain_id if self._writer is not None else "")

    def expected(self, expected: Expected) -> Answer:
        """What the collector's answer asks for."""
        return self._writer.expected(expected) if self._writer is not None else "nothing"

    def acknowledged(self, chain_id: str, seq: int) -> None:
        """The collector committed the witness of this record. From any thread."""
        writer = self._writer
        if writer is not None and writer.chain_id == chain_id:
            writer.acknowledged(seq)

    # Writing

    def append(self, *, clean_stop: bool = False) -> bool:
        """Write the next record and say so if it is there. False: the file is another one now, or holds something else,
        and must be read."""
        writer, appender = self._writer, self._appender
        if writer is None or appender is None:
            return True
        attempt = writer.attempt(self._moment(), metadata_seq=self._metadata_seq, clean_stop=clean_stop)
        try:
            with self._busy():
                record = attempt.record
                seconds = appender.append(
                    attempt.slot, attempt.content, record.previous_seq, record.previous_hash
                )
        except RingMoved:
            return False
        except AppendFailed as failure:
            self._failed(failure.errno, failure.stage, lost=failure.errno not in REFUSED)
            return True
        writer.confirmed(attempt, seconds)
        with self._board.changing() as standing:
            standing.appended, standing.write_error = True, ""
            standing.fsyncs.append((boot_clock(), seconds))
            standing.records_total += 1
            standing.written_bytes_total += SLOT_BYTES
        self._say(
            Confirmed(
                volume=self._volume.volume,
                chain_id=writer.chain_id,
                head=attempt.head,
                previous=attempt.previous,
                written_at=attempt.record.wall_ns / 1e9,
                fsync_seconds=seconds,
                clean_stop=clean_stop,
                metadata_seq=attempt.record.metadata_seq,
                acknowledged_seq=attempt.record.acknowledged_seq,
            )
        )
        return True

    def renew_metadata(self) -> None:
        """Replace the small file by a new one, as programs do; the next record carries its count."""
        if self._writer is None:
            return
        try:
            with self._busy():
                self._store.write_metadata(self._writer.chain_id, self._metadata_seq + 1)
        except OSError as error:
            code = error.errno or errno.EIO
            self._failed(code, "replacing a file", lost=code not in REFUSED)
        else:
            self._metadata_seq += 1

    def ask_for_lost_writes(self, dirty_bytes: int | None) -> None:
        """syncfs: whether some file of this filesystem lost data since somebody last asked. `dirty_bytes` of the machine;
        None where nobody says."""
        skipped = ""
        if self._volume.network:
            skipped = "not asked of another machine's filesystem, which may hang"
        elif dirty_bytes is None or dirty_bytes > DIRTY_BYTES_MAX:
            skipped = f"not asked while more than {DIRTY_BYTES_MAX >> 20} MiB wait to be written"
        reason = ""
        if not skipped:
            try:
                with self._busy():
                    sync_filesystem(Path(self._volume.path))
            except OSError as error:
                code = error.errno or 0
                if code in (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOSYS):
                    skipped = f"syncfs cannot be asked: {error_name(code)}"
                else:
                    reason = f"{error_name(code)} at syncfs: {os.strerror(code)}"
        with self._board.changing() as standing:
            standing.syncfs_skipped = skipped
            standing.writeback_failed_reason = standing.writeback_failed_reason or reason
        if reason:
            self._failed_on_mount = self._mount_id

    # What is behind it

    def _identity(self) -> VolumeIdentity:
        volume = self._volume
        device = name_of_number(SYSFS, volume.number) if not volume.number.startswith("0:") else None
        if device is None and volume.source.startswith("/dev/"):
            device = name_of_path(volume.source)
        return VolumeIdentity(
            volume=volume.volume,
            fstype=volume.fstype,
            filesystem_id=filesystem_id(volume.path, volume.fstype, device or "", volume.number),
            device=device or "",
            device_id=device_id(device or ""),
            mount_id=self._mount_id,
            mount_root=volume.mount_root,
        )

    def _moment(self) -> Moment:
        return Moment(
            epoch=self._who.epoch,
            boot_id=self._who.boot_id,
            instance=instance_digest(self._who.machine.instance_id),
            mount_id=self._mount_id,
            wall_ns=time.time_ns(),
            boottime_ns=round(boot_clock() * 1e9),
        )

    def _go_on(self, read: RingRead, *, second: bool) -> None:
        found, path = read.found, self._store.path
        assert path is not None
        if self._writer is None or self._writer.chain_id != found.chain_id:
            self._writer = ChainWriter(found.chain_id, found.slots, found)
        else:
            self._writer.read_again(found, second=second)
        self._remembered = found.chain_id
        self._absence_told = False
        self._appender = RingAppender(path, read)
        promised = found.head.metadata_seq if found.head else 0
        self._metadata_seq = max(self._store.metadata_count(found.chain_id), promised, self._metadata_seq)
        with self._board.changing() as standing:
            standing.reason, standing.denied, standing.mode = "", False, read.mode
            if self._failed_on_mount != read.place.mount_id and not found.broken and not read.cache_differs:
                standing.failed_reason = standing.writeback_failed_reason = ""

    def _tell(self, identity: VolumeIdentity, read: RingRead, cause: ReadCause, metadata_seq: int) -> None:
        found, head, header = read.found, read.found.head, read.found.header
        ours = self._writer is not None and self._writer.chain_id == found.chain_id
        # What was acknowledged since the newest record is in no record yet.
        acknowledged = self._writer.acknowledged_seq if ours and self._writer else found.acknowledged_seq
        self._say(
            ReadBack(
                identity=identity,
                machine=self._machine,
                cause=cause,
                read_mode=read.mode,
                chain_id=found.chain_id,
                owner=header.owner if header else "",
                began_on=header.began_on if header else "",
                head=found.chain_head,
                hashes=found.listed,
                oldest_seq=found.oldest_seq,
                broken=found.broken,
                torn_seq=found.torn_seq,
                acknowledged_seq=acknowledged,
                clean_stop=head.clean_stop if head else False,
                written_by_boot=head.boot_id if head else "",
                written_at=head.wall_ns / 1e9 if head else 0.0,
                metadata_seq=metadata_seq,
                cache_differs=read.cache_differs,
            )
        )

    def _tell_absence(
        self, identity: VolumeIdentity, cause: ReadCause, others: list[tuple[RingRead, int]]
    ) -> None:
        """Once: that there is no chain; or what others left here, for it tells where the disk comes from."""
        if self._absence_told:
            return
        self._absence_told = True
        for read, metadata_seq in others:
            self._tell(identity, read, cause, metadata_seq)
        if not others:
            self._say(ReadBack(identity=identity, machine=self._machine, cause=cause))

    def _unreadable(self, cause: ReadCause, known: str, error: OSError) -> None:
        """Nothing can be said of the chain. Only where one is known to have been is that worth a report."""
        said = f"{error_name(error.errno or 0)}: {error.strerror or error}"
        reason = f"its chain cannot be read ({said})"
        told = self._close(reason, denied=error.errno in (errno.EACCES, errno.EPERM))
        if known and not told:
            identity = VolumeIdentity(volume=self._volume.volume, fstype=self._volume.fstype)
            machine = self._machine
            self._say(ReadBack(identity=identity, machine=machine, cause=cause, read_error=said))

    def _begin(self, identity: VolumeIdentity, known: str) -> None:
        """A new chain; the one that lies there, if any, is put aside."""
        self._writer = self._appender = None
        try:
            with self._busy():
                self._store.freeze(known)
                header = self._store.begin(identity.filesystem_id, time.time())
                read = self._store.read(header.chain_id)
        except NoPlace as error:
            self._close(str(error), denied=error.denied)
            return
        except OSError as error:
            self._close(f"no chain can be begun: {error.strerror or error}", denied=error.errno in REFUSED)
            return
        assert read is not None, "it was made a moment ago"
        with self._board.changing() as standing:
            standing.written_bytes_total += ring_bytes(header.slots)
        self._metadata_seq = 0
        self._go_on(read, second=False)
        self._tell(identity, read, ReadCause.BEGUN, 0)

    def _close(self, reason: str, *, denied: bool = False) -> bool:
        """No chain to append to, and why; whether that was known."""
        self._writer = self._appender = None
        with self._board.changing() as standing:
            known = standing.reason == reason
            standing.reason, standing.denied = reason, denied
        return known

    def _failed(self, code: int, stage: str, *, lost: bool) -> None:
        self._failed_on_mount = self._mount_id if lost else self._failed_on_mount
        with self._board.changing() as standing:
            standing.appended, standing.write_error = True, error_name(code)
            if lost and not standing.failed_reason:
                standing.failed_reason = f"{error_name(code)} at {stage}: {os.strerror(code)}"

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """While the volume is asked: whoever looks sees for how long."""
        with self._board.changing() as standing:
            standing.busy_since = boot_clock()
        try:
            yield
        finally:
            with self._board.changing() as standing:
                standing.busy_since = None
