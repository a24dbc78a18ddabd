"""ZFS pools, from recorded output: no machine of the tests has ZFS, so the programs are stand-ins that print it."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
from msgspec import structs

from holdfast_agent.probe import NoData, ProbeContext
from holdfast_agent.probes import zfs_linux, zpool_events_linux
from holdfast_agent.probes.zfs_linux import Zfs
from holdfast_agent.probes.zpool_events_linux import ZpoolEvents, concerns_state, next_pause
from holdfast_agent.probes.zpool_status import parse_status
from holdfast_wire.message import Value
from tests.agent.probes.recordings import recorded
from tests.agent.probes.watching import watching

Facts = dict[str, Value]


@pytest.fixture
def found() -> dict[str, Facts]:
    observation = Zfs(ProbeContext(node="n")).interpret(recorded(Zfs, "three-pools"))
    return {resource.name: resource.facts for resource in observation.resources}


def test_a_pool_that_is_well_says_so_in_every_way(found: dict[str, Facts]) -> None:
    assert found["rpool"] == {
        "pool_state": "ONLINE",
        "pool_trouble": "",
        "pool_devices_troubled": 0,
        "pool_resilvering": False,
        "pool_data_errors": 0,
        "pool_scrub_age_seconds": 1764000000.0 - 1762660891.0,
        "pool_capacity_ratio": 0.41,
    }


def test_a_faulted_disk_is_found_below_a_pool_that_calls_itself_online(found: dict[str, Facts]) -> None:
    facts = found["tank"]

    assert (facts["pool_state"], facts["pool_devices_troubled"], facts["pool_resilvering"]) == (
        "ONLINE",
        2,
        True,
    )
    assert facts["pool_trouble"] == (
        "ata-WDC_WD40-1 FAULTED (4 read, 372 write errors) too many errors; "
        "ata-WDC_WD40-2 ONLINE (28 checksum errors)"
    )
    assert (facts["pool_data_errors"], facts["pool_capacity_ratio"]) == (2, 0.93)


def test_a_suspended_pool_may_not_say_what_it_lost(found: dict[str, Facts]) -> None:
    """No data is never health: neither errors nor their absence are made up."""
    assert found["dead"]["pool_state"] == "SUSPENDED"
    assert "pool_data_errors" not in found["dead"]
    assert "pool_scrub_age_seconds" not in found["dead"]


def test_only_the_dataset_that_ignores_fsync_is_named(found: dict[str, Facts]) -> None:
    assert {at: facts.get("zfs_sync_disabled") for at, facts in found.items() if at.startswith("/")} == {
        "/": False,
        "/tank": False,
        "/tank/db": True,
    }


def test_each_dataset_tells_its_log_and_its_copies(found: dict[str, Facts]) -> None:
    told = {
        at: (facts["zfs_logbias"], facts["zfs_copies"]) for at, facts in found.items() if at.startswith("/")
    }

    assert told == {"/": ("latency", 2), "/tank": ("latency", 1), "/tank/db": ("throughput", 1)}


@pytest.mark.parametrize(
    ("said", "facts"),
    [
        ("tank\tcopies\t3\n", {"zfs_copies": 3}),
        ("tank\tcopies\t-\ntank\tlogbias\tlatency\n", {"zfs_logbias": "latency"}),
        ("tank\tsync\n", None),
        ("other\tsync\tdisabled\n", None),
        ("", None),
    ],
)
def test_of_a_dataset_only_what_zfs_said_is_told(said: str, facts: Facts | None) -> None:
    """Not `sync is on` because no line says that it is off."""
    recording = recorded(Zfs, "three-pools")
    raw = structs.replace(recording, answers=recording.answers | {"properties": said})

    observation = Zfs(ProbeContext(node="n")).interpret(raw)

    volumes = {r.name: r.facts for r in observation.resources if r.kind == "volume"}
    assert volumes.get("/tank") == facts


@pytest.mark.parametrize("text", ["", "no pools available\n", "  pool: x\n", " state: ONLINE\n", "\0\n\n"])
def test_output_that_names_no_pool_gives_none(text: str) -> None:
    assert parse_status(text) == []


# Stand-ins for the programs


def machine(tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Zfs:
    """A machine with one pool whose `zpool` and `zfs` are the script."""
    (tmp_path / "proc/spl/kstat/zfs/tank").mkdir(parents=True)
    (tmp_path / "proc/spl/kstat/zfs/tank/state").write_text("ONLINE\n")
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/mountinfo").write_text("1 0 0:9 / /tank rw - zfs tank rw\n")
    for name in ("zpool", "zfs"):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(zfs_linux, "_PATH", f"{tmp_path}:{os.defpath}")
    return Zfs(ProbeContext(node="n", procfs=tmp_path / "proc"))


def test_the_programs_are_asked_in_plain_language_and_universal_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = machine(tmp_path, 'echo "$(basename $0) $* $LC_ALL $TZ"', monkeypatch)

    assert probe.read().answers == {
        "status": "zpool status -p C UTC\n",
        "list": "zpool list -Hp -o name,capacity C UTC\n",
        "properties": "zfs get -Hp -o name,property,value -t filesystem sync,logbias,copies C UTC\n",
    }


def test_a_refusal_is_told_with_its_cure_and_the_state_is_known_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = machine(
        tmp_path, 'echo "Permission denied the ZFS utilities must be run as root." >&2; exit 1', monkeypatch
    )
    observation = probe.interpret(probe.read())

    assert [resource.facts for resource in observation.resources] == [{"pool_state": "ONLINE"}]
    assert "DeviceAllow=/dev/zfs" in observation.missing["zfs status"]


def test_a_program_that_hangs_is_left_and_no_other_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ignores what would end it, as a process in state D does; the pool's state comes from kstat."""
    monkeypatch.setattr(zfs_linux, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("subprocess.Popen.kill", lambda child: None)
    probe = machine(tmp_path, f"echo $$ >> {tmp_path}/asked; exec sleep 60", monkeypatch)
    first, second = probe.read(), probe.read()
    asked = (tmp_path / "asked").read_text().split()
    os.kill(int(asked[0]), 9)

    assert len(asked) == 1
    assert first.states == {"tank": "ONLINE"}
    assert "did not answer" in first.unanswered["status"]
    assert "still hangs" in second.unanswered["status"]


# ZFS's own events. The stand-in prints what zpool-events(8) documents: with -H the time and the class, and a tab between.

EVENTS = """\
Nov 25 2026 15:12:44.718305541\tsysevent.fs.zfs.history_event
Nov 25 2026 15:12:44.719305541\tsysevent.fs.zfs.config_sync
Nov 25 2026 15:13:02.104772190\tereport.fs.zfs.io
Nov 25 2026 15:13:02.105772190\tresource.fs.zfs.statechange
Nov 25 2026 15:13:05.000000001\tereport.fs.zfs.vdev.open_failed
Nov 25 2026 15:20:00.000000001\tsysevent.fs.zfs.resilver_start
Nov 25 2026 15:25:00.000000001\tsysevent.fs.zfs.scrub_finish
"""


def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str = "") -> Zfs:
    """The stand-in notes each start and prints what comes through a pipe, until that is closed; or does something else."""
    monkeypatch.setattr(zpool_events_linux, "PAUSE_SECONDS_MIN", 0.01)
    os.mkfifo(tmp_path / "pipe")
    listen = f'echo $$ "$*" >> {tmp_path}/started; {then or f"exec cat {tmp_path}/pipe"}'
    return machine(tmp_path, f'if [ "$1" = events ]; then {listen}; fi', monkeypatch)


def starts(tmp_path: Path) -> list[str]:
    started = tmp_path / "started"
    return started.read_text().splitlines() if started.exists() else []


def test_an_event_that_may_change_a_pool_is_told_apart_from_one_that_keeps_a_record() -> None:
    assert [line.partition("\t")[2] for line in EVENTS.splitlines() if concerns_state(line)] == [
        "ereport.fs.zfs.io",
        "resource.fs.zfs.statechange",
        "ereport.fs.zfs.vdev.open_failed",
        "sysevent.fs.zfs.resilver_start",
        "sysevent.fs.zfs.scrub_finish",
    ]


@pytest.mark.parametrize(
    "line", ["", "\t", "TIME  CLASS", "permission denied", "internal error: out of memory"]
)
def test_what_is_no_event_concerns_nobody(line: str) -> None:
    assert not concerns_state(line)


def test_a_line_that_comes_in_pieces_is_one() -> None:
    events = ZpoolEvents(lambda: None, lambda: None)
    pieces = [b"Nov 25 2026 15:13:02.1", b"04772190\tereport.fs", b".zfs.io", b"\n", b"\n"]

    assert [events.concerned(piece) for piece in pieces] == [False, False, False, True, False]


async def test_each_event_has_the_pools_looked_at_and_the_program_ends_with_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = followed(tmp_path, monkeypatch)
    with contextlib.ExitStack() as open_until_after:
        async with watching(probe) as watched:
            await watched.started()
            before = starts(tmp_path)
            await asyncio.to_thread(probe.read)
            await watched.until(lambda: starts(tmp_path), "the program to run")
            pipe = open_until_after.enter_context((tmp_path / "pipe").open("w"))
            pipe.write("Nov 25 2026 15:12:44.718305541\tsysevent.fs.zfs.history_event\n")
            pipe.write("Nov 25 2026 15:13:02.104772190\tereport.fs.zfs.io\n")
            pipe.flush()
            await watched.refreshed()
            running = starts(tmp_path)
        pid, arguments = running[0].split(" ", 1)
        left = Path(f"/proc/{pid}").exists()

    assert before == []
    assert (len(running), arguments) == (1, "events -H -f")
    assert not left


async def test_a_program_that_ends_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = followed(tmp_path, monkeypatch, then="exit 1")
    async with watching(probe) as watched:
        await watched.started()
        await asyncio.to_thread(probe.read)
        await watched.until(lambda: len(starts(tmp_path)) >= 2, "a second start")

    assert {line.split(" ", 1)[1] for line in starts(tmp_path)} == {"events -H -f"}


def test_the_pauses_grow_while_it_ends_at_once() -> None:
    """`permission denied` ends it, and an hour later it would still: not a process a second for that."""
    pauses = [0.0]
    for _ in range(8):
        pauses.append(next_pause(pauses[-1], ran_seconds=0.01))

    assert pauses[1:] == [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 3600.0, 3600.0]
    assert next_pause(3600.0, ran_seconds=61.0) == 1.0


async def test_without_a_pool_no_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = followed(tmp_path, monkeypatch)
    (tmp_path / "proc/spl/kstat/zfs/tank/state").unlink()
    async with watching(probe) as watched:
        await watched.started()
        await asyncio.to_thread(probe.read)
        await watched.started()

    assert starts(tmp_path) == []


def test_a_machine_without_zfs_has_no_pools(tmp_path: Path) -> None:
    with pytest.raises(NoData, match="not loaded"):
        Zfs(ProbeContext(node="n", procfs=tmp_path)).read()
