"""What an NVMe tells by itself, as the kernel passes it on."""

from pathlib import Path

import pytest

from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.device_answers_linux import Answer, DeviceAnswers
from holdfast_agent.probes.nvme_events_linux import NvmeWarning, disks_of, warning_in
from holdfast_agent.probes.smart_linux import Smart
from holdfast_agent.probes.uevent_linux import parse_uevent
from tests import needs

DEVICE = "/devices/pci0000:00/0000:00:04.0/nvme/nvme0"


def announced(number: str, device: str = DEVICE) -> NvmeWarning | None:
    """As nvme_aen_uevent of drivers/nvme/host/core.c sends it."""
    event = parse_uevent(
        f"change@{device}\0ACTION=change\0DEVPATH={device}\0SUBSYSTEM=nvme\0NVME_AEN={number}\0"
        "NVME_TRTYPE=pcie\0SEQNUM=2001\0".encode()
    )
    assert event is not None
    return warning_in(event)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("0x020001", "its reliability is degraded"),
        ("0x020101", "its temperature is out of bounds"),
        ("0x020201", "its spare blocks are below the threshold"),
        ("0x010300", "it has an internal error that persists"),
    ],
)
def test_a_warning_is_told_in_words(number: str, words: str) -> None:
    assert announced(number) == NvmeWarning("nvme0", int(number, 16), words)


@pytest.mark.parametrize(
    "number", ["0x040002", "0x0c0302", "0x010100", "0x000007", "nonsense", ""],
    ids=["a namespace changed", "paths changed", "a doorbell", "the vendor's own", "no number", "nothing"],
)  # fmt: skip
def test_what_says_nothing_of_health_is_no_warning(number: str) -> None:
    assert announced(number) is None


def test_only_an_nvme_warns_and_what_was_lost_is_no_warning() -> None:
    assert announced("0x020001", "/devices/virtual/block/loop0") is None
    assert warning_in({}) is None


def test_a_warning_is_about_each_of_the_controllers_disks(tmp_path: Path) -> None:
    """A disk that several controllers share is named after none of them: then the controller stands for it."""
    for name in ("nvme0n1", "nvme0n2", "nvme1n1", "nvme10n1"):
        (tmp_path / "block" / name).mkdir(parents=True)

    assert disks_of(tmp_path, "nvme0") == ["nvme0n1", "nvme0n2"]
    assert disks_of(tmp_path, "nvme3") == ["nvme3"]


def test_what_is_reported_names_the_disk_and_the_event() -> None:
    probe = Smart(ProbeContext(node="n", boot_id="b", wall_clock=lambda: 12.0))

    told = probe._happening("nvme0n1", NvmeWarning("nvme0", 0x20001, "its reliability is degraded"))

    assert (told.type, told.resource_kind, told.resource, told.at, told.summary, dict(told.fields)) == (
        "nvme_warning", "device", "nvme0n1", 12.0, "nvme0 says that its reliability is degraded",
        {"boot_id": "b", "controller": "nvme0", "event": 0x20001},
    )  # fmt: skip


def test_a_disk_that_warned_is_asked_again_and_the_others_are_not(tmp_path: Path) -> None:
    """Its answer of half an hour ago says that it is well."""
    needs.root()
    known: list[set[str]] = []

    def asking(before: dict[str, Answer]) -> dict[str, Answer]:
        known.append(set(before))
        return {name: Answer(status=0, asked=0.0) for name in ("nvme0n1", "nvme1n1")}

    answers = DeviceAnswers(ProbeContext(node="n", rootfs=tmp_path), "smart", asking)
    answers.get(60.0)
    answers.forget("nvme0n1")
    answers.get(60.0)

    assert known == [set(), {"nvme1n1"}]
