"""Paths followed inside a process's root, where the filesystem they lead to is in trouble."""

import errno
from pathlib import Path

from holdfast_agent.probes.inside_root_linux import InsideRoot
from tests.rigs.loop_disk import LoopDisk


def test_path_on_a_filesystem_that_was_shut_down_is_an_error_of_that_path_only(tmp_path: Path) -> None:
    """XFS lets its root be opened then, and answers nothing about it; the other services' paths must still be told."""
    with LoopDisk(tmp_path, "xfs") as disk, InsideRoot(Path("/"), {}) as root:
        (disk.mountpoint / "data").mkdir()
        disk.shut_down()

        dead = root.place(f"{disk.mountpoint}/data")
        alive = root.place(str(tmp_path))

    assert errno.errorcode[errno.EIO] in dead.error or "Input/output error" in dead.error
    assert alive.error == ""
