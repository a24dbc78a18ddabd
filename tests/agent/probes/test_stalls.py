"""Stalls: a device that completes nothing is told from one that is busy and one that is idle."""

import os
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.stalls_linux import Stalls, StallsRaw, StallsWatch
from holdfast_wire.message import Value
from tests import needs
from tests.agent.probes.recordings import recorded
from tests.agent.probes.watching import watching
from tests.rigs.failing_disk import FailingDisk
from tests.rigs.unprivileged import as_nobody
from tests.waiting import wait_for

Facts = dict[str, Value]


def facts_of(probe: Stalls, raw: StallsRaw) -> dict[str, Facts]:
    return {resource.name: resource.facts for resource in probe.interpret(raw).resources}


def test_only_whole_devices_that_were_ever_used_are_listed() -> None:
    found = facts_of(Stalls(ProbeContext(node="n")), recorded(Stalls, "one-disk-hangs"))

    assert list(found) == ["sda", "sdb", "dm-0", "n"]


def test_loop_device_whose_file_was_taken_away_is_a_name_only(tmp_path: Path) -> None:
    """It keeps the counts of its last use for ever; hundreds of them may be left."""
    for name in ("loop0", "loop1", "sda"):
        (tmp_path / "block" / name).mkdir(parents=True)
    (tmp_path / "diskstats").write_text(
        "".join(
            f"   {major}       {minor} {name} 50 0 8 0 7 0 8 0 0 0 0\n"
            for major, minor, name in ((7, 0, "loop0"), (7, 1, "loop1"), (8, 0, "sda"))
        )
    )
    (tmp_path / "partitions").write_text(
        "major minor  #blocks  name\n\n   7        1     131072 loop1\n   8        0   20971520 sda\n"
    )

    assert Stalls(ProbeContext(node="n", procfs=tmp_path, sysfs=tmp_path)).read().disks == ["loop1", "sda"]


def test_pressure_is_a_share_of_the_last_minute() -> None:
    found = facts_of(Stalls(ProbeContext(node="n")), recorded(Stalls, "one-disk-hangs"))

    assert found["n"] == {
        "io_pressure_some_ratio": 0.87,
        "io_pressure_full_ratio": 0.81,
        "hung_tasks_total": 2,
    }


def test_a_device_stalls_from_the_first_look_at_requests_that_do_not_complete() -> None:
    probe, raw = Stalls(ProbeContext(node="n")), recorded(Stalls, "one-disk-hangs")
    first = facts_of(probe, raw)["sdb"]
    later = facts_of(probe, msgspec.structs.replace(raw, at=1070.5))["sdb"]

    assert first == {"stalled_seconds": 0.0, "requests_stalled": 0}
    assert later == {"stalled_seconds": 70.5, "requests_stalled": 12}


def test_a_device_that_completes_something_does_not_stall_however_busy() -> None:
    probe, raw = Stalls(ProbeContext(node="n")), recorded(Stalls, "one-disk-hangs")
    facts_of(probe, raw)
    busy = raw.diskstats.replace("sdb 50 0", "sdb 51 0")
    facts = facts_of(probe, msgspec.structs.replace(raw, at=1070.0, diskstats=busy))["sdb"]

    assert facts == {"stalled_seconds": 0.0, "requests_stalled": 0}


def test_a_device_that_was_idle_in_between_begins_anew() -> None:
    """An idle disk completes nothing either: its stall cannot have begun before it had something to do."""
    probe, raw = Stalls(ProbeContext(node="n")), recorded(Stalls, "one-disk-hangs")
    idle = raw.diskstats.replace("560 40 12", "560 40 0")
    facts_of(probe, msgspec.structs.replace(raw, diskstats=idle))
    begun = facts_of(probe, msgspec.structs.replace(raw, at=1500.0))["sdb"]
    lasting = facts_of(probe, msgspec.structs.replace(raw, at=1510.0))["sdb"]

    assert (begun["stalled_seconds"], lasting["stalled_seconds"]) == (0.0, 10.0)


def test_a_kernel_without_pressure_says_so_and_claims_none() -> None:
    raw = msgspec.structs.replace(recorded(Stalls, "one-disk-hangs"), pressure="", hung_tasks=None)
    observation = Stalls(ProbeContext(node="n")).interpret(raw)

    assert "psi=1" in observation.missing["io_pressure"]
    assert "n" not in [resource.name for resource in observation.resources]


@pytest.mark.system
def test_a_trigger_that_is_refused_names_the_right() -> None:
    said = as_nobody(
        """
        import asyncio, tempfile
        from pathlib import Path
        from holdfast_agent.probe import Denied, ProbeContext, Unsupported
        from holdfast_agent.probes.stalls_linux import StallsWatch
        with tempfile.TemporaryDirectory() as folder:
            for make in (lambda: None, lambda: (pressure.mkdir(), (pressure / "io").touch(mode=0o444))):
                pressure = Path(folder) / "pressure"
                make()
                try:
                    asyncio.run(StallsWatch(ProbeContext(node="n", procfs=Path(folder))).watch(None, None))
                except (Denied, Unsupported) as stop:
                    print(type(stop).__name__, stop.reason)
        """
    )

    assert said.startswith("Unsupported this kernel keeps no pressure stall information (psi=1)\nDenied ")
    assert "CAP_SYS_RESOURCE" in said


# This kernel


@pytest.mark.system
def test_a_disk_that_hangs_stalls_until_it_answers(tmp_path: Path) -> None:
    """The server behind the loop device is stopped: no request fails, none completes."""
    probe = Stalls(ProbeContext(node="n"))
    with FailingDisk(tmp_path, "ext4") as disk:

        def look() -> Facts:
            return facts_of(probe, probe.read()).get(disk.name, {})

        quiet = look()
        os.kill(disk.server_pid, signal.SIGSTOP)
        try:
            writer = subprocess.Popen(
                ["dd", "if=/dev/zero", f"of={disk.mountpoint}/file", "bs=64k", "count=8", "conv=fsync"],
                stderr=subprocess.DEVNULL,
            )
            stalled = wait_for(lambda: (found := look())["stalled_seconds"] and found)
        finally:
            os.kill(disk.server_pid, signal.SIGCONT)
        writer.wait()
        cleared = wait_for(lambda: (found := look())["stalled_seconds"] == 0 and found)

    assert quiet["stalled_seconds"] == 0.0
    assert isinstance(stalled, dict)
    assert isinstance(stalled["requests_stalled"], int)
    assert stalled["requests_stalled"] >= 1
    assert cleared == {"stalled_seconds": 0.0, "requests_stalled": 0}


@pytest.mark.system
async def test_the_kernel_takes_the_trigger() -> None:
    """2 s windows are open to everybody since 6.4; before, root has the right. Any other window is refused here."""
    needs.condition(
        Path("/proc/pressure/io").exists(), "needs a kernel with pressure stall information (psi=1)"
    )
    needs.root()

    def opened() -> bool:
        return any(
            path.is_symlink() and os.readlink(path) == "/proc/pressure/io"
            for path in Path("/proc/self/fd").iterdir()
        )

    async with watching(StallsWatch(ProbeContext(node="n"))) as watched:
        armed = await watched.until(opened, "the trigger")
        await watched.started()
        still_armed = await watched.until(opened, "the trigger")

    assert (armed, still_armed, opened()) == (True, True, False)


@pytest.mark.system
async def test_the_trigger_fires_when_everybody_waits_for_a_disk(tmp_path: Path) -> None:
    """Of a control group of the test's own: on a shared machine somebody always has something else to do."""
    needs.root()
    group = _control_group()
    try:
        (tmp_path / "pressure").mkdir()
        (tmp_path / "pressure" / "io").symlink_to(group / "io.pressure")
        with FailingDisk(tmp_path, "ext4") as disk:
            os.kill(disk.server_pid, signal.SIGSTOP)
            try:
                async with watching(StallsWatch(ProbeContext(node="n", procfs=tmp_path))) as watched:
                    await watched.started()
                    told_before = watched.refreshes
                    writer = _writing(group, disk.mountpoint / "file")
                    fired = await watched.until(lambda: watched.refreshes, "the trigger to fire")
            finally:
                os.kill(disk.server_pid, signal.SIGCONT)
            ended = _ended(writer)
    finally:
        group.rmdir()

    assert told_before == 0
    assert fired >= 1
    assert ended == 0


def _writing(group: Path, file: Path) -> subprocess.Popen[bytes]:
    """A process of that control group that waits until its file is on the disk."""
    script = 'echo $$ >"$0" && exec dd if=/dev/zero of="$1" bs=64k count=8 conv=fsync'
    command = ["sh", "-c", script, str(group / "cgroup.procs"), str(file)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def _ended(process: subprocess.Popen[bytes]) -> int:
    return process.wait(30)


def _control_group() -> Path:
    """A new one with pressure of its own (cgroups(7), Linux 4.20)."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    unified = next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)
    needs.condition(unified is not None, "needs cgroup version 2, mounted")
    assert unified is not None
    group = unified / f"holdfast-test-{os.getpid()}"
    group.mkdir()
    if not (group / "io.pressure").exists():
        group.rmdir()
        needs.condition(False, "needs a kernel with pressure stall information of control groups (psi=1)")
    return group
