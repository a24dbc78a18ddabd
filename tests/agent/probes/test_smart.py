"""Health records: what smartctl's answers mean, and when old errors are new ones."""

import json

import msgspec
import pytest

from holdfast_agent.errors import Denied
from holdfast_agent.probe import Observation, ProbeContext
from holdfast_agent.probes.device_answers_linux import Answer
from holdfast_agent.probes.smart_facts import LOGGED, Baseline, Reading, grown, grown_since, understood
from holdfast_agent.probes.smart_linux import Smart, SmartRaw
from holdfast_wire.message import Value
from tests.agent.probes.recordings import recorded


def smart() -> Smart:
    return Smart(ProbeContext(node="n"))


def by_name(observation: Observation) -> dict[str, dict[str, Value]]:
    return {resource.name: resource.facts for resource in observation.resources}


def seen(machine: str) -> dict[str, dict[str, Value]]:
    return by_name(smart().interpret(recorded(Smart, machine)))


def answer(document: object, status: int = 0) -> Answer:
    return Answer(status=status, output=json.dumps(document), asked=1.0)


def test_virtual_disks_have_no_record_which_is_neither_health_nor_failure() -> None:
    """virtio answers nothing; QEMU's SCSI disk answers that it has none."""
    found = seen("virtual-machine")

    for disk in ("vda", "sda"):
        assert found[disk]["smart_available"] is False
        assert found[disk]["smart_unavailable_reason"]
        assert not {"smart_passed", "smart_failing", "smart_new_errors"} & found[disk].keys()


def test_an_nvme_in_good_order_says_so() -> None:
    nvme = seen("virtual-machine")["nvme0n1"]

    assert (nvme["smart_available"], nvme["smart_passed"], nvme["smart_failing"]) == (True, True, False)
    assert (nvme["nvme_reliability_degraded"], nvme["nvme_backup_failed"]) == (False, False)
    assert (nvme["smart_media_errors"], nvme["smart_new_errors"], nvme["wear_ratio"]) == (0, 0, 0.0)


def test_each_bit_of_the_critical_warning_is_a_fact_of_its_own() -> None:
    nvme = seen("nvme-critical")["nvme0n1"]

    assert {name: nvme[name] for name in nvme if name.startswith("nvme_")} == {
        "nvme_spare_low": False,
        "nvme_too_hot": False,
        "nvme_reliability_degraded": True,
        "nvme_media_read_only": False,
        "nvme_backup_failed": True,
    }
    assert nvme["smart_failing"] is True
    assert "no protection from power loss" in str(nvme["smart_failing_reason"])


def test_heat_alone_is_no_failing_disk() -> None:
    """smartctl's verdict is bad for any bit of the warning; nobody is to be paged for a fan."""
    log = {"nvme_smart_health_information_log": {"critical_warning": 2}, "smart_status": {"passed": False}}

    assert understood(answer(log)).facts["smart_failing"] is False
    assert understood(answer(log)).facts["nvme_too_hot"] is True


def test_a_drive_says_that_its_cache_is_on() -> None:
    assert seen("virtual-machine")["sdc"]["drive_cache_enabled"] is True


def test_pending_sectors_of_long_ago_are_a_baseline_and_new_ones_are_growth() -> None:
    probe = smart()
    before = by_name(probe.interpret(recorded(Smart, "ata-pending-before")))["sda"]
    after = by_name(probe.interpret(recorded(Smart, "ata-pending-after")))["sda"]

    assert (before["smart_pending_sectors"], before["smart_new_errors"]) == (8, 0)
    assert (after["smart_pending_sectors"], after["smart_new_errors"]) == (16, 10)
    assert (before["smart_bad_attributes"], after["smart_bad_attributes"]) == (1, 2)
    assert (before["smart_logged_errors"], before["smart_new_logged_errors"]) == (3, 0)
    assert (after["smart_logged_errors"], after["smart_new_logged_errors"]) == (5, 2)


def test_the_baseline_outlives_the_agent() -> None:
    first = smart()
    first.interpret(recorded(Smart, "ata-pending-before"))
    restarted = Smart(ProbeContext(node="n", cursors=first.context.cursors))

    assert by_name(restarted.interpret(recorded(Smart, "ata-pending-after")))["sda"]["smart_new_errors"] == 10


def test_a_raw_value_of_several_counts_in_one_is_left_out() -> None:
    """188 on Seagate's disks: 4295032833 is 1, 1 and 1."""
    assert "smart_command_timeouts" not in seen("ata-pending-before")["sda"]


def test_a_failing_disk_fails_and_what_could_not_be_read_is_missing() -> None:
    observation = smart().interpret(recorded(Smart, "ata-failed"))
    found = by_name(observation)

    assert (found["sda"]["smart_passed"], found["sda"]["smart_failing"]) == (False, True)
    assert found["sda"]["smart_bad_attributes"] == 5
    assert found.keys() == {"sda"}
    assert observation.missing == {
        "sdb.smart_passed": "Device is in STANDBY mode, exit(2)",
        "sdc.smart_passed": "smartctl did not answer within 30 s",
    }


def test_the_exit_status_is_a_mask_and_no_verdict() -> None:
    """scsi_debug ends with 4 and passes (measured); old errors in the log give 64."""
    passed = {"smart_status": {"passed": True}}

    assert [understood(answer(passed, status)).facts["smart_failing"] for status in (0, 4, 64, 68)] == [
        False
    ] * 4


def test_a_disk_that_may_not_be_asked_is_unknown_beside_one_that_cannot_be() -> None:
    observation = smart().interpret(recorded(Smart, "denied"))

    assert by_name(observation).keys() == {"vda"}
    assert "holdfast-devices.timer" in observation.missing["smart_passed"]


def test_an_agent_that_may_ask_no_disk_is_denied() -> None:
    with pytest.raises(Denied):
        smart().interpret(msgspec.structs.replace(recorded(Smart, "denied"), virtual=[]))


@pytest.mark.parametrize(
    "output",
    [
        "",
        "smartctl 6.6 has no such option",
        "[]",
        '{"smart_status": 7}',
        '{"ata_smart_attributes": {"table": [null, {"id": "x"}, {"id": 197}, {"id": 5, "raw": {"value": -1}}]}}',
        '{"nvme_smart_health_information_log": {"critical_warning": "bad", "media_errors": null}}',
    ],
)
def test_an_odd_answer_claims_neither_health_nor_failure(output: str) -> None:
    reading = understood(Answer(status=0, output=output, asked=1.0))

    assert not {"smart_passed", "smart_failing", "smart_pending_sectors"} & reading.facts.keys()


def reading(pending: int, identity: str = "disk/1") -> Reading:
    return Reading(facts={"smart_pending_sectors": pending}, identity=identity)


def grow(steps: list[tuple[int, int]]) -> list[int | None]:
    """(day, pending sectors) → growth told at each look."""
    baseline, told = Baseline(), list[int | None]()
    for day, pending in steps:
        growth, baseline = grown(baseline, reading(pending), day)
        told.append(growth)
    return told


def test_growth_is_told_for_a_week_and_then_is_the_new_baseline() -> None:
    assert grow([(100, 0), (101, 8), (105, 8), (107, 8), (108, 8)]) == [0, 8, 8, 8, 0]


def test_logged_errors_are_counted_apart_from_damage() -> None:
    """A cable logs errors, too; a disk with nothing but a log has no count of damage, and 0 would be one."""
    before = Reading(facts={LOGGED: 3}, identity="disk/1")
    after = Reading(facts={LOGGED: 7}, identity="disk/1")

    _, baseline = grown(Baseline(), before, 100)
    damage, baseline = grown(baseline, after, 101)

    assert (damage, grown_since(baseline, after, LOGGED)) == (None, 4)


def test_a_count_that_an_older_agent_did_not_keep_grows_from_its_first_day() -> None:
    """Not unknown until the baseline without it is a week old, and not everything the disk ever logged."""
    old = Baseline("disk/1", {100: {"smart_pending_sectors": 0}})
    first = Reading(facts={"smart_pending_sectors": 0, LOGGED: 3}, identity="disk/1")
    second = Reading(facts={"smart_pending_sectors": 0, LOGGED: 4}, identity="disk/1")

    _, baseline = grown(old, first, 100)
    _, baseline = grown(baseline, second, 101)

    assert grown_since(baseline, second, LOGGED) == 1


def test_slow_growth_adds_up_within_the_week() -> None:
    assert grow([(100, 0), (101, 1), (102, 2), (103, 3)]) == [0, 1, 2, 3]


def test_a_count_that_falls_is_no_growth_and_its_next_rise_is() -> None:
    assert grow([(100, 8), (101, 0), (102, 8)]) == [0, 0, 8]


def test_after_a_month_without_a_look_growth_is_still_seen() -> None:
    assert grow([(100, 0), (131, 5)]) == [0, 5]


def test_another_disk_under_the_same_name_begins_anew() -> None:
    _, baseline = grown(Baseline(), reading(0), 100)

    assert grown(baseline, reading(50, "disk/2"), 101)[0] == 0


def test_a_disk_without_counts_has_no_growth() -> None:
    assert grown(Baseline(), Reading(facts={"smart_passed": True}), 100) == (None, Baseline())


def test_a_recorded_clock_set_back_does_not_invent_growth() -> None:
    assert grow([(200, 8), (100, 8)]) == [0, 0]


def test_a_machine_with_nothing_but_virtual_disks_works() -> None:
    observation = smart().interpret(SmartRaw(answers={}, virtual=["vda"], at=0.0))

    assert observation.missing == {}
