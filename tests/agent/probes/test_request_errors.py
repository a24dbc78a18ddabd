"""Failed requests, one by one: from lines of the kernel's trace, and from a real disk that fails while it is traced."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from holdfast_agent.errors import Denied, NoData, Unsupported
from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.request_errors_linux import EVENT, FailedRequest, RequestErrors, failed_requests
from holdfast_agent.probes.trace_instance_linux import TraceInstance, tracefs
from holdfast_wire.message import Value
from tests import needs
from tests.agent.probes.recordings import recorded
from tests.agent.probes.watching import watching
from tests.rigs.failing_disk import FailingDisk
from tests.rigs.unprivileged import as_nobody

TRACING = Path("/sys/kernel/tracing")

PIPE = """\
     ksoftirqd/1-22      [001] ..s.. 28563.210316: block_rq_error: 7,572261 WS () 17410 + 2 be,0,4 [-5]
          python-1166    [001] ..s.. 28563.224960: block_rq_error: 8,16 RA () 8770 + 128 be,0,4 [-61]
CPU:0 [LOST 17 EVENTS]
          <idle>-0       [000] ..s.. 28564.000001: block_rq_error: 259,0 FF () 0 + 0 [-5]
          <idle>-0       [000] ..s.. 28564.000002: block_rq_error: 8,16 FWS (28 00 ff) 2048 + 8 none,0,0 [-121]
          <idle>-0       [000] ..s.. 28564.000003: block_rq_error: 8,16 DS () 4096 + 8 [-9999]
          <idle>-0       [000] ..s.. 28564.000004: block_rq_complete: 8,16 WS () 4096 + 8 [0]
"""
"""The first two lines as Linux 6.18 printed them; the rest after the format of the event (include/trace/events/block.h)."""


def test_each_line_is_one_request_with_what_was_asked_and_the_error() -> None:
    assert list(failed_requests(PIPE)) == [
        FailedRequest("7:572261", "write of 2 sectors at 17410: EIO"),
        FailedRequest("8:16", "read of 128 sectors at 8770: ENODATA"),
        FailedRequest("259:0", "flush: EIO"),
        FailedRequest("8:16", "write of 8 sectors at 2048: EREMOTEIO"),
        FailedRequest("8:16", "discard of 8 sectors at 4096: 9999"),
    ]


@pytest.mark.parametrize("text", ["", "\n", "block_rq_error: 8,16", ": block_rq_error: a,b W () 1 + 1 [-5]"])
def test_what_is_no_such_line_is_none(text: str) -> None:
    assert list(failed_requests(text)) == []


def test_requests_are_counted_by_device_and_the_newest_is_kept(tmp_path: Path) -> None:
    probe = RequestErrors(ProbeContext(node="n", sysfs=machine(tmp_path)))
    grew = [probe.take(PIPE), probe.take("")]
    probe._counting = True

    facts = look(probe)
    assert grew == [True, False]
    assert facts == {
        "sdb": {"request_errors_total": 3, "request_error_last": "discard of 8 sectors at 4096: 9999"},
        "vda": {"request_errors_total": 0, "request_error_last": ""},
        "7:572261": {"request_errors_total": 1, "request_error_last": "write of 2 sectors at 17410: EIO"},
        "259:0": {"request_errors_total": 1, "request_error_last": "flush: EIO"},
    }


def test_recorded_disk_shows_its_failures() -> None:
    observation = RequestErrors(ProbeContext(node="n")).interpret(recorded(RequestErrors, "firecracker-6.18"))

    assert [resource.facts["request_errors_total"] for resource in observation.resources] == [2, 0]


def look(probe: RequestErrors) -> dict[str, dict[str, Value]]:
    return {resource.name: resource.facts for resource in probe.interpret(probe.read()).resources}


def machine(folder: Path, *, event: bool = True, mounted: bool = True) -> Path:
    """A sysfs with tracing and a few devices: a disk, an idle loop device, a mapped device."""
    tracing = folder / "kernel" / "tracing"
    tracing.mkdir(parents=True)
    if mounted:
        (tracing / "instances").mkdir()
    if event:
        (tracing / "events" / EVENT).mkdir(parents=True)
    for name in ("sdb", "vda", "loop3", "dm-0", "zram0"):
        (folder / "block" / name).mkdir(parents=True)
    (folder / "dev" / "block").mkdir(parents=True)
    (folder / "dev" / "block" / "8:16").symlink_to("../../block/sdb")
    return folder


# Where it cannot be had


def test_a_kernel_without_the_event_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no event block_rq_error"):
        RequestErrors(ProbeContext(node="n", sysfs=machine(tmp_path, event=False))).read()


def test_tracing_that_is_not_mounted_is_told_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="mount -t tracefs"):
        RequestErrors(ProbeContext(node="n", sysfs=machine(tmp_path, mounted=False))).read()


def test_before_anything_counts_there_is_no_count(tmp_path: Path) -> None:
    """`once` and `doctor` listen to nothing: none seen is not none happened."""
    with pytest.raises(NoData, match="while the agent runs"):
        RequestErrors(ProbeContext(node="n", sysfs=machine(tmp_path))).read()


def test_a_folder_that_is_no_tracing_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    sysfs = machine(tmp_path)
    instances = sysfs / "kernel" / "tracing" / "instances"
    (instances / "somebody").mkdir()
    with pytest.raises(Denied, match="No such file"):
        TraceInstance(tracefs(sysfs, EVENT), EVENT)

    assert "somebody" in os.listdir(instances)


# With the kernel


@pytest.fixture
def traced() -> Iterator[Path]:
    """The machine's tracing, mounted for the time of the test where it is not."""
    needs.root()
    needs.tool("mount", package="mount")
    needs.condition(TRACING.is_dir(), "needs a kernel with tracing")
    own = not (TRACING / "instances").is_dir()
    if own:
        done = os.spawnlp(os.P_WAIT, "mount", "mount", "-t", "tracefs", "tracefs", str(TRACING))
        needs.condition(done == 0, "needs to mount tracefs")
    try:
        needs.condition((TRACING / "events" / EVENT).is_dir(), "needs Linux 5.18 for block_rq_error")
        yield TRACING
    finally:
        if own:
            os.spawnlp(os.P_WAIT, "umount", "umount", str(TRACING))


def ours(tracing: Path) -> list[str]:
    return [name for name in os.listdir(tracing / "instances") if name == f"holdfast-{os.getpid()}"]


@pytest.mark.system
async def test_requests_that_fail_are_counted_as_they_do_and_no_trace_is_left(
    traced: Path, tmp_path: Path
) -> None:
    probe = RequestErrors(ProbeContext(node="n"))
    global_buffer = (traced / "set_event").read_text()
    with FailingDisk(tmp_path, "ext4") as disk:
        async with watching(probe) as watched:
            await watched.refreshed()
            during = ours(traced)
            before = (await asyncio.to_thread(look, probe))[disk.name]
            await asyncio.to_thread(write_in_vain, disk)
            await watched.refreshed(more_than=1)
            after = (await asyncio.to_thread(look, probe))[disk.name]
            meanwhile = (traced / "set_event").read_text()

    assert before == {"request_errors_total": 0, "request_error_last": ""}
    assert isinstance(after["request_errors_total"], int)
    assert after["request_errors_total"] >= 1
    assert str(after["request_error_last"]).startswith("write of ")
    assert str(after["request_error_last"]).endswith(": EIO")
    assert (len(during), ours(traced)) == (1, [])
    assert meanwhile == global_buffer


def write_in_vain(disk: FailingDisk) -> None:
    with (disk.mountpoint / "file").open("wb", buffering=0) as file:
        disk.fail()
        file.write(bytes(1 << 16))
        with suppress(OSError):
            os.fsync(file.fileno())


@pytest.mark.system
def test_a_trace_that_a_killed_agent_left_is_swept_and_one_in_use_is_not(traced: Path) -> None:
    left, used = traced / "instances" / "holdfast-999999998", traced / "instances" / "holdfast-999999999"
    left.mkdir()
    used.mkdir()
    try:
        with (used / "trace_pipe").open("rb"), TraceInstance(tracefs(Path("/sys"), EVENT), EVENT):
            seen = set(os.listdir(traced / "instances"))
    finally:
        for folder in (left, used):
            with suppress(FileNotFoundError):
                folder.rmdir()

    assert left.name not in seen
    assert used.name in seen


@pytest.mark.system
def test_without_root_it_is_denied_with_what_the_log_tells_instead(traced: Path) -> None:
    said = as_nobody(
        """
        from holdfast_agent.probe import ProbeContext, ProbeStop
        from holdfast_agent.probes.request_errors_linux import RequestErrors
        try:
            RequestErrors(ProbeContext(node="n")).check()
        except ProbeStop as stop:
            print(type(stop).__name__, stop.reason)
        """
    )

    assert said.startswith("Denied ")
    assert "`kernel_log` tells of the first few" in said
