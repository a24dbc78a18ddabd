"""The kernel log probe: nothing lost, nothing repeated without need, blindness said."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast_agent.probe import Denied, Happening, ProbeContext, Unsupported
from holdfast_agent.probes import kernel_log_linux
from holdfast_agent.probes.kernel_log_linux import KernelLog
from holdfast_agent.probes.kmsg import KmsgRecord
from holdfast_agent.probes.kmsg_device_linux import KmsgGap, KmsgReader, open_kmsg
from tests import needs
from tests.agent.probes.kmsg_socket import KmsgSocket
from tests.agent.probes.watching import watching
from tests.rigs.failing_disk import FailingDisk
from tests.rigs.loop_disk import LoopDisk


@pytest.fixture
def log() -> Iterator[KmsgSocket]:
    with KmsgSocket() as log:
        yield log


def seqs(reader: KmsgReader) -> list[int | KmsgGap]:
    return [found.seq if isinstance(found, KmsgRecord) else found for found in reader.read_available()]


def test_a_reader_passes_over_what_is_reported_already(log: KmsgSocket) -> None:
    for seq in range(5):
        log.say("text", seq=seq)

    assert seqs(KmsgReader(log.descriptor, after=2)) == [3, 4]


def test_a_hole_behind_the_cursor_is_told_before_what_follows_it(log: KmsgSocket) -> None:
    log.say("text", seq=10)
    log.say("text", seq=11)
    log.say("text", seq=14)

    assert seqs(KmsgReader(log.descriptor, after=7)) == [KmsgGap(2, 10), 10, 11, KmsgGap(2, 14), 14]


def test_a_record_overwritten_under_the_reader_is_a_hole_not_an_end(
    log: KmsgSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """read(2) then fails with EPIPE once, and goes on at the oldest record left (dev-kmsg)."""
    refusals = [BrokenPipeError()]
    read = os.read

    def overrun(descriptor: int, size: int) -> bytes:
        if refusals:
            raise refusals.pop()
        return read(descriptor, size)

    reader = KmsgReader(log.descriptor, after=0)
    log.say("text", seq=40)
    monkeypatch.setattr(os, "read", overrun)

    assert seqs(reader) == [KmsgGap(39, 40), 40]


def test_the_first_reader_of_a_running_machine_misses_nothing_it_ever_had(log: KmsgSocket) -> None:
    log.say("text", seq=900)

    assert seqs(KmsgReader(log.descriptor, after=None)) == [900]


def test_a_reader_goes_on_where_it_stopped(log: KmsgSocket) -> None:
    reader = KmsgReader(log.descriptor, after=-1)
    log.say("text", seq=0)
    first = seqs(reader)
    log.say("text", seq=1)

    assert (first, seqs(reader), reader.newest) == ([0], [1], 1)


def test_without_the_device_the_probe_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="container"):
        KernelLog(ProbeContext(node="n", rootfs=tmp_path)).read()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, whoever runs the test."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_without_the_right_to_read_it_the_probe_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "kmsg").touch(mode=0o000)

    with as_nobody(), pytest.raises(Denied, match="CAP_SYSLOG"):
        KernelLog(ProbeContext(node="n", rootfs=tmp_path)).check()


def test_a_container_whose_kernel_log_is_nothing_has_none(tmp_path: Path) -> None:
    """So runtimes hide the host's. An empty log would be taken for a kernel that has nothing to complain of."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "kmsg").symlink_to(os.devnull)

    with pytest.raises(Unsupported, match="a container does not see its host's kernel log"):
        KernelLog(ProbeContext(node="n", rootfs=tmp_path)).check()


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def kernel_log(context: ProbeContext | None = None) -> KernelLog:
    """A probe that has read this machine's log up to now, or that goes on where another stopped."""
    if context is None:
        context = ProbeContext(node="this", boot_id=boot_id())
        descriptor = open_kmsg(Path("/dev/kmsg"))
        reader = KmsgReader(descriptor, after=None)
        list(reader.read_available())
        os.close(descriptor)
        note = f'{{"boot_id":"{context.boot_id}","seq":{reader.newest}}}'
        context.cursors.store("position", note.encode())
    return KernelLog(context)


@pytest.mark.system
async def test_a_failing_disk_is_reported_as_data_loss(tmp_path: Path) -> None:
    """fsync says EIO to the program once; ext4 counts nothing (errors_count stays 0); the log is all there is."""
    with FailingDisk(tmp_path, "ext4") as disk:
        async with watching(kernel_log()) as watched:
            with (disk.mountpoint / "file").open("wb") as file:
                file.write(bytes(1 << 16))
                file.flush()
                disk.fail()
                with pytest.raises(OSError, match="Input/output"):
                    os.fsync(file.fileno())

            loss = await watched.seen(disk.name, "kernel_data_loss")
            failed = await watched.seen(disk.name, "kernel_io_error")

    assert (loss.resource_kind, failed.resource_kind) == ("device", "device")
    assert "error" in failed.summary


@pytest.mark.system
async def test_a_storm_of_lost_pages_becomes_a_few_events(tmp_path: Path) -> None:
    with FailingDisk(tmp_path, "ext4") as disk:
        async with watching(kernel_log()) as watched:
            for number in range(8):
                with (disk.mountpoint / f"file-{number}").open("wb") as file:
                    file.write(bytes(1 << 18))
                    file.flush()
                    disk.fail()
                    with pytest.raises(OSError, match="Input/output"):
                        os.fsync(file.fileno())
                    disk.work()
            await watched.seen(disk.name, "kernel_data_loss")

    assert len(watched.of(disk.name, "kernel_data_loss")) <= 10


@pytest.mark.system
async def test_ext4_in_emergency_is_reported_as_damage_and_loss(tmp_path: Path) -> None:
    with LoopDisk(tmp_path, "ext4", mount_options="errors=remount-ro") as disk:
        async with watching(kernel_log()) as watched:
            disk.trigger_ext4_error()

            damage = await watched.seen(disk.name, "kernel_filesystem_error")
            loss = await watched.seen(disk.name, "kernel_data_loss")

    assert damage.summary.startswith(f"EXT4-fs error (device {disk.name}): ")
    assert loss.fields["boot_id"] == boot_id()


@pytest.mark.system
async def test_a_shut_down_xfs_is_reported_as_loss(tmp_path: Path) -> None:
    with LoopDisk(tmp_path, "xfs") as disk:
        async with watching(kernel_log()) as watched:
            disk.shut_down()

            loss = await watched.seen(disk.name, "kernel_data_loss")

    assert loss.fields["pattern"] == "xfs_shutdown_requested"


@pytest.mark.system
async def test_what_user_space_writes_into_the_log_is_not_believed(tmp_path: Path) -> None:
    with LoopDisk(tmp_path, "ext4") as disk:
        async with watching(kernel_log()) as watched:
            Path("/dev/kmsg").write_text("<2>EXT4-fs (forged0): Remounting filesystem read-only")
            disk.trigger_ext4_error()
            await watched.seen(disk.name, "kernel_filesystem_error")

    assert watched.of("forged0") == []


@pytest.mark.system
async def test_a_second_run_reports_only_what_is_new(tmp_path: Path) -> None:
    """Killed and started again, the agent goes on behind the last event that was made durable."""
    with LoopDisk(tmp_path, "ext4") as disk:
        probe = kernel_log()
        disk.trigger_ext4_error()
        async with watching(probe) as first:
            await first.seen(disk.name, "kernel_filesystem_error")
        disk.trigger_ext4_error()
        async with watching(kernel_log(probe.context)) as second:
            await second.seen(disk.name, "kernel_filesystem_error")

    reported = [h.fields["kernel_seq"] for h in first.of(disk.name) + second.of(disk.name)]
    assert len(reported) == len(set(reported)) == 2


@pytest.mark.system
async def test_a_first_look_passes_over_what_was_said_long_ago_of_devices_that_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page about it helps nobody. One that is still there is told of, however old the line is."""
    monkeypatch.setattr(kernel_log_linux, "_PAST_SECONDS", -1.0)
    (tmp_path / "gone").mkdir()
    with LoopDisk(tmp_path / "gone", "ext4") as gone:
        gone.trigger_ext4_error()
    with LoopDisk(tmp_path, "ext4") as disk:
        disk.trigger_ext4_error()
        never_ran = KernelLog(ProbeContext(node="this", boot_id=boot_id()))
        async with watching(never_ran) as watched:
            await watched.seen(disk.name, "kernel_filesystem_error")

    assert watched.of(gone.name) == []


@pytest.mark.system
async def test_an_event_that_did_not_become_durable_is_reported_again(tmp_path: Path) -> None:
    """The cursor moves after `emit` has returned, so a crash within it costs nothing."""
    with LoopDisk(tmp_path, "ext4") as disk:
        probe = kernel_log()

        async def crash(happening: Happening) -> None:
            if happening.resource == disk.name:
                raise ConnectionAbortedError

        disk.trigger_ext4_error()
        with pytest.raises(ConnectionAbortedError):
            await probe.watch(crash, lambda: None)
        async with watching(kernel_log(probe.context)) as second:
            assert await second.seen(disk.name, "kernel_filesystem_error")


@pytest.mark.system
def test_the_log_of_this_machine_can_be_read() -> None:
    needs.root()

    observation = kernel_log().interpret(kernel_log().read())

    assert (observation.status, observation.resources, observation.missing) == ("ok", [], {})
