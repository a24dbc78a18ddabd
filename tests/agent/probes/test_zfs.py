"""ZFS pools, from recorded output: no machine of the tests has ZFS, so the programs are stand-ins that print it."""

import os
from pathlib import Path

import pytest

from holdfast_agent.probe import NoData, ProbeContext
from holdfast_agent.probes import zfs_linux
from holdfast_agent.probes.zfs_linux import Zfs
from holdfast_agent.probes.zpool_status import parse_status
from holdfast_wire.message import Value
from tests.agent.probes.recordings import recorded

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
        "sync": "zfs get -Hp -o name,value -t filesystem sync C UTC\n",
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


def test_a_machine_without_zfs_has_no_pools(tmp_path: Path) -> None:
    with pytest.raises(NoData, match="not loaded"):
        Zfs(ProbeContext(node="n", procfs=tmp_path)).read()
