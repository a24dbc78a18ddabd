"""The rig of loop devices: what it mends is mended, whoever looks on."""

import subprocess
from pathlib import Path

import pytest

from tests import needs
from tests.rigs.loop_disk import LoopDisk
from tests.waiting import wait_for

pytestmark = pytest.mark.system


def test_a_repaired_filesystem_is_another_one_though_a_copied_namespace_held_it(tmp_path: Path) -> None:
    """Every box with a mount namespace of its own takes all mounts along, for as long as it lives."""
    needs.root()
    unshare = needs.tool("unshare", package="util-linux")
    needs.tool("nsenter", package="util-linux")
    with LoopDisk(tmp_path, "xfs") as disk:
        told_apart = Path(f"/sys/fs/xfs/{disk.name}")
        box = subprocess.Popen([unshare, "--mount", "sleep", "60"])
        try:
            wait_for(lambda: _is_in(box.pid, disk.mountpoint), what="the box to have it")
            before = told_apart.stat().st_ino
            disk.shut_down()
            disk.repair()
            after = told_apart.stat().st_ino
            (disk.mountpoint / "file").write_text("taken")
        finally:
            box.kill()
            box.wait()

    assert after != before


def _is_in(process: int, mountpoint: Path) -> bool:
    """Whether the process lives in a namespace of its own that has the mount, too."""
    own = Path(f"/proc/{process}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
    return own and f" {mountpoint} " in Path(f"/proc/{process}/mountinfo").read_text()
