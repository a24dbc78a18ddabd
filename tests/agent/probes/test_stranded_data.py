"""Data beneath a mountpoint: found with a look beneath that disturbs nobody, and gone when they are moved away."""

from pathlib import Path

import pytest

from holdfast_agent.probe import NoData, ProbeContext
from holdfast_agent.probes import hidden_tree_linux
from holdfast_agent.probes.mounted_linux import Mounted
from holdfast_agent.probes.stranded_data_linux import StrandedData, StrandedDataRaw, mount_beneath
from holdfast_agent.probes.volume_list import list_volumes, mounts_in
from holdfast_wire.message import Value
from tests.agent.probes.recordings import recorded
from tests.agent.probes.watching import watching
from tests.rigs.loop_disk import LoopDisk
from tests.rigs.unprivileged import as_nobody

Facts = dict[str, Value]


def look(probe: StrandedData) -> dict[str, Facts]:
    return {resource.name: resource.facts for resource in probe.interpret(probe.read()).resources}


def test_what_a_mount_hides_is_told_with_its_first_names() -> None:
    observation = StrandedData(ProbeContext(node="n")).interpret(
        recorded(StrandedData, "after-a-missed-mount")
    )
    found = {resource.name: resource.facts for resource in observation.resources}

    assert found["/data"] == {
        "stranded_entries": 10000,
        "stranded_bytes": 73400320,
        "stranded": "at least 10000 files on the filesystem of /, hidden by the mount: PG_VERSION, base/1/112, "
        "base/1/113, base/1/1247, base/1/1247_fsm, …",
    }
    assert found["/data/deep"]["stranded"] == "1 file on the filesystem of /data, hidden by the mount: note"
    assert found["/clean"] == {"stranded_entries": 0, "stranded_bytes": 0, "stranded": ""}
    assert observation.missing == {"/lost": "what lies beneath it: Input/output error"}


def test_nobody_looks_where_looking_may_hang_or_nothing_lasts() -> None:
    """Beneath it is another machine's filesystem, or memory; and nothing is beneath the root."""
    mounts = recorded(StrandedData, "after-a-missed-mount").mounted.own_mounts
    beneath = {
        volume.mount.mountpoint: mount_beneath(volume, mounts_in(mounts))
        for volume in list_volumes(mounts, mounts)
    }

    assert {at: mount.mountpoint for at, mount in beneath.items() if mount} == {
        "/clean": "/",
        "/data": "/",
        "/data/deep": "/data",
        "/lost": "/",
        "/mnt/nfs": "/",
    }


def test_a_machine_with_one_filesystem_has_nothing_beneath_it() -> None:
    root = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
    raw = StrandedDataRaw(mounted=Mounted(machine_mounts=root, own_mounts=root))

    with pytest.raises(NoData):
        StrandedData(ProbeContext(node="n")).interpret(raw)


# Real mounts


@pytest.mark.system
async def test_files_written_while_the_disk_was_missing_are_found_beneath_it_and_cleared(
    tmp_path: Path,
) -> None:
    """The mount wakes the watch, the look changes nothing, and what is there on purpose is not counted."""
    probe = StrandedData(ProbeContext(node="n"))
    with LoopDisk(tmp_path, "ext4") as disk:
        at = disk.mountpoint
        clean = look(probe)[str(at)]
        disk.unmount()
        (at / "base").mkdir()
        (at / "base" / "table").write_bytes(b"x" * 1000)
        (at / ".keep").touch()
        (at / "lost+found").mkdir()
        (at / "lost+found" / "#12").write_bytes(b"y")
        async with watching(probe) as watched:
            await watched.started()
            disk.mount()
            await watched.refreshed()
        before = mounts_in(Path("/proc/self/mountinfo").read_text())
        found = look(probe)[str(at)]
        after = mounts_in(Path("/proc/self/mountinfo").read_text())
        disk.unmount()
        (at / "base" / "table").unlink()
        disk.mount()
        cleared = look(probe)[str(at)]

    assert (clean["stranded_entries"], clean["stranded"]) == (0, "")
    assert (found["stranded_entries"], found["stranded_bytes"]) == (1, 1000)
    assert "hidden by the mount: base/table" in str(found["stranded"])
    assert {m.mountpoint for m in after} == {m.mountpoint for m in before}
    assert (cleared["stranded_entries"], cleared["stranded"]) == (0, "")


@pytest.mark.system
def test_the_count_stops_before_it_becomes_a_burden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden_tree_linux, "ENTRIES_MAX", 3)
    probe = StrandedData(ProbeContext(node="n"))
    with LoopDisk(tmp_path, "ext4") as disk:
        disk.unmount()
        for number in range(9):
            (disk.mountpoint / f"file-{number}").touch()
        disk.mount()
        found = look(probe)[str(disk.mountpoint)]

    assert found["stranded_entries"] == 3
    assert str(found["stranded"]).startswith("at least 3 files")


@pytest.mark.system
def test_without_the_right_the_probe_names_it(tmp_path: Path) -> None:
    with LoopDisk(tmp_path, "ext4"):
        said = as_nobody(
            """
            from holdfast_agent.probe import Denied, ProbeContext
            from holdfast_agent.probes.stranded_data_linux import StrandedData
            try:
                StrandedData(ProbeContext(node="n")).read()
            except Denied as denied:
                print(denied.reason)
            """
        )

    assert "CAP_SYS_ADMIN" in said
