"""md arrays: what is missing, what comes back, what a check found, and the watch on /proc/mdstat."""

import pytest

from holdfast_agent.errors import NoData
from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.md_linux import Md, MdRaw, sync_ratio
from holdfast_wire.message import Value
from tests.agent.probes.recordings import recorded


def seen(machine: str) -> dict[str, dict[str, Value]]:
    observation = Md(ProbeContext(node="n")).interpret(recorded(Md, machine))
    return {resource.name: resource.facts for resource in observation.resources}


def test_a_complete_mirror_lacks_nothing() -> None:
    assert seen("clean")["md0"] == {
        "raid_level": "raid1",
        "raid_parity": False,
        "raid_state": "clean",
        "raid_running": True,
        "raid_disks": 2,
        "raid_missing_disks": 0,
        "raid_mismatches": 0,
        "raid_action": "idle",
        "raid_recovering": False,
        "raid_members": "ram0 in_sync, ram1 in_sync",
    }


def test_a_failed_member_is_missing_though_the_state_stays_clean() -> None:
    """`array_state` is not the one to watch: measured, and so in the recording."""
    md0 = seen("degraded")["md0"]

    assert (md0["raid_state"], md0["raid_missing_disks"], md0["raid_recovering"]) == ("clean", 1, False)
    assert md0["raid_members"] == "ram0 in_sync, ram1 faulty"


def test_a_refill_is_told_from_doing_nothing() -> None:
    md0 = seen("recovering")["md0"]

    assert (md0["raid_missing_disks"], md0["raid_recovering"], md0["raid_action"]) == (1, True, "recover")
    assert md0["raid_sync_ratio"] == 0.0


def test_half_an_array_that_came_up_alone_does_not_run() -> None:
    """One disk of a stripe set appeared at boot, the other did not: no level, no count, only `inactive`."""
    md127 = seen("clean")["md127"]

    assert (md127["raid_state"], md127["raid_running"]) == ("inactive", False)
    assert "raid_missing_disks" not in md127


def test_a_broken_stripe_set_does_not_run_and_a_firmware_container_is_no_array() -> None:
    found = seen("mismatch-and-broken")

    assert found["md126"]["raid_running"] is False
    assert "md127" not in found


def test_parity_and_its_write_hole_are_told() -> None:
    found = seen("mismatch-and-broken")

    assert (found["md6"]["raid_mismatches"], found["md6"]["raid_parity"]) == (128, True)
    assert (found["md6"]["raid_write_hole"], found["md5"]["raid_write_hole"]) == (True, False)
    assert "raid_write_hole" not in found["md9"]


def test_a_resync_of_a_complete_array_is_no_recovery() -> None:
    md5 = seen("mismatch-and-broken")["md5"]

    assert (md5["raid_recovering"], md5["raid_sync_ratio"]) == (False, 0.25)


def test_an_array_without_a_state_is_unknown_with_a_reason() -> None:
    observation = Md(ProbeContext(node="n")).interpret(MdRaw(arrays={"md0": {"level": "raid1"}}, members={}))

    assert observation.missing == {"md0.raid_running": "the kernel shows no array_state"}
    assert "raid_running" not in observation.resources[0].facts


def test_a_machine_without_md_says_so() -> None:
    with pytest.raises(NoData):
        Md(ProbeContext(node="n")).interpret(MdRaw(arrays={}, members={}))


@pytest.mark.parametrize("text", ["none", "delayed", "", "7", "1 / 0", "x / y"])
def test_progress_that_is_none_is_left_out(text: str) -> None:
    assert sync_ratio(text) is None
