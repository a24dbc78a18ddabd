"""LVM: lvs's answers, of several releases and states, and who may ask."""

import msgspec
import pytest

from holdfast_agent.errors import Denied, NoData, Unsupported
from holdfast_agent.probe import Observation, ProbeContext
from holdfast_agent.probes.block_media_linux import Medium, temporary
from holdfast_agent.probes.device_answers_linux import Answer
from holdfast_agent.probes.lvm_linux import Lvm, LvmRaw
from holdfast_wire.message import Value
from tests.agent.probes.recordings import recorded


def look(raw: LvmRaw) -> Observation:
    return Lvm(ProbeContext(node="n")).interpret(raw)


def seen(machine: str) -> dict[str, dict[str, Value]]:
    """By name of the logical volume."""
    return {str(one.facts["lv_name"]): one.facts for one in look(recorded(Lvm, machine)).resources}


def said(output: str, status: int = 0, error: str = "") -> LvmRaw:
    return LvmRaw(answer=Answer(status=status, output=output, error=error, asked=1.0))


def test_a_thin_pool_says_how_full_it_is() -> None:
    assert seen("thin-85")["data-vg/pool"] == {
        "lv_name": "data-vg/pool",
        "lv_type": "thin-pool",
        "lv_health": "",
        "thin_data_ratio": 0.85,
        "thin_metadata_ratio": 0.125,
        "thin_when_full": "queue",
    }


def test_volumes_are_named_as_the_kernel_names_them() -> None:
    names = {one.facts["lv_name"]: one.name for one in look(recorded(Lvm, "thin-85")).resources}

    assert names["data-vg/thin"].startswith("dm-")
    assert len(set(names.values())) == len(names)


def test_parts_of_other_volumes_are_left_out_while_nothing_is_wrong_with_them() -> None:
    assert "mirror/vol_rimage_1" not in seen("thin-85")
    assert seen("partial")["mirror/vol_rimage_1"]["lv_health"] == "partial"


def test_a_thin_volume_is_not_taken_for_a_pool() -> None:
    """Its percentage is the share that it has written, and 100 % of that is no trouble."""
    assert "thin_data_ratio" not in seen("full")["data-vg/thin"]


def test_a_full_pool_and_an_invalid_snapshot_are_unhealthy() -> None:
    found = seen("full")

    assert (found["data-vg/pool"]["lv_health"], found["data-vg/pool"]["thin_data_ratio"]) == (
        "out_of_data",
        1.0,
    )
    assert found["data-vg/snap"]["lv_health"] != ""
    assert found["data-vg/snap"]["snapshot_ratio"] == 1.0


def test_a_mirror_without_one_disk_is_partial() -> None:
    assert seen("partial")["mirror/vol"]["lv_health"] == "partial"


def test_a_cache_says_what_only_it_holds_and_where() -> None:
    slow = seen("thin-85")["cached/slow"]

    assert (slow["cache_mode"], slow["cache_dirty_bytes"]) == ("writeback", 0)
    assert (slow["cache_device"], slow["cache_temporary"]) == ("ram5", True)


def test_numbers_nulls_commas_and_warnings_of_other_releases_are_read() -> None:
    observation = look(recorded(Lvm, "json-std"))
    found = {one.name: one.facts for one in observation.resources}

    assert found["dm-4"]["thin_data_ratio"] == 0.915
    assert (found["dm-3"]["raid_sync_ratio"], found["dm-3"]["raid_mismatches"]) == (0.425, 16)
    assert (found["dm-5"]["cache_mode"], found["dm-5"]["cache_temporary"]) == ("writeback", True)
    assert "thin_data_ratio" not in found["vg0/pool"]
    assert observation.missing.keys() == {"lvs", "vg0/pool.thin_data_ratio"}


@pytest.mark.parametrize("output", ["", "not JSON", "[]", '{"report": 1}'])
def test_what_is_no_answer_is_refused_with_what_lvs_said(output: str) -> None:
    with pytest.raises(Denied, match="ended with 5 and said"):
        look(said(output, 5, ""))


def test_a_report_of_odd_shape_gives_no_volumes() -> None:
    with pytest.raises(NoData):
        look(said('{"report": [{"lv": 3}, 7, {"lv": [null]}]}'))


def test_volumes_without_lvm2_are_unsupported_not_healthy() -> None:
    with pytest.raises(Unsupported, match="not installed"):
        look(said("", -1, "lvs is not installed"))


@pytest.mark.parametrize(
    ("media", "lost"),
    [
        ([Medium("nvme1n1", "Amazon EC2 NVMe Instance Storage")], True),
        ([Medium("zram0")], True),
        ([Medium("sdb", "Virtual Disk", azure_temporary=True)], True),
        ([Medium("nvme0n1", "Amazon Elastic Block Store")], False),
        ([Medium("sda", "Virtual Disk")], None),
        ([Medium("nvme0n1", "Amazon Elastic Block Store"), Medium("sda", "QEMU HARDDISK")], None),
        ([], None),
    ],
)
def test_a_disk_is_temporary_only_when_something_says_so(media: list[Medium], lost: bool | None) -> None:
    assert temporary(media) is lost


def test_an_answer_survives_the_way_through_the_file() -> None:
    answers = {"lvs": recorded(Lvm, "partial").answer}

    assert msgspec.json.decode(msgspec.json.encode(answers), type=dict[str, Answer]) == answers
