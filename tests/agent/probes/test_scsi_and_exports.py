"""Counters of SCSI disks and NFS exports: small files of the kernel's and of nfs-utils."""

from pathlib import Path

import pytest

from holdfast_agent.probe import NoData, ProbeContext
from holdfast_agent.probes.nfs_exports_linux import NfsExports
from holdfast_agent.probes.scsi_counters_linux import Counts, ScsiCounters
from tests.agent.probes.recordings import recorded


def test_counts_are_told_by_disk_and_absent_where_the_kernel_keeps_none() -> None:
    observation = ScsiCounters(ProbeContext(node="n")).interpret(recorded(ScsiCounters, "two-disks"))

    assert {resource.name: resource.facts for resource in observation.resources} == {
        "sda": {"scsi_errors_total": 2, "scsi_timeouts_total": 0},
        "sdb": {"scsi_errors_total": 17, "scsi_timeouts_total": 3},
        "sdc": {"scsi_errors_total": 0},
    }


def test_the_kernel_writes_them_in_hexadecimal(tmp_path: Path) -> None:
    for disk, count in (("sda", "0x1f"), ("nvme0n1", "")):
        (tmp_path / "block" / disk / "device").mkdir(parents=True)
        if count:
            (tmp_path / "block" / disk / "device" / "ioerr_cnt").write_text(f"{count}\n")
    probe = ScsiCounters(ProbeContext(node="n", sysfs=tmp_path))

    assert probe.read().disks == {"sda": Counts(31, None)}


def test_a_machine_without_such_disks_has_no_data(tmp_path: Path) -> None:
    probe = ScsiCounters(ProbeContext(node="n", sysfs=tmp_path))

    with pytest.raises(NoData):
        probe.interpret(probe.read())


def test_an_export_that_lies_to_its_clients_is_named_at_its_volume() -> None:
    """Read-only exports lie to nobody; a sync one on the same volume is none of the trouble."""
    observation = NfsExports(ProbeContext(node="n")).interpret(recorded(NfsExports, "sync-and-async"))

    assert {resource.name: resource.facts for resource in observation.resources} == {
        "/": {"nfs_exported_async": False, "nfs_exports": "/home/my files to 10.0.0.7 sync"},
        "/srv": {"nfs_exported_async": True, "nfs_exports": "/srv/vm to 10.0.0.0/24 async"},
    }


def test_a_machine_that_exports_nothing_has_no_data(tmp_path: Path) -> None:
    with pytest.raises(NoData, match="no NFS server"):
        NfsExports(ProbeContext(node="n", rootfs=tmp_path)).read()
