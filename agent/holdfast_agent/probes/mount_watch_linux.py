"""Wakes when something is mounted, unmounted or remounted."""

import asyncio
import contextlib
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from holdfast_agent.probe import Unsupported

MOUNT = "a mount, an unmount or a remount"
"""What `mount_changes` hears of, for `Signal`."""


@contextlib.contextmanager
def mount_changes(procfs: Path, on_change: Callable[[], None]) -> Iterator[None]:
    """Call back, on the running event loop, at every change in process 1's mount namespace or the agent's own.

    The kernel wakes pollers of mountinfo with POLLPRI and POLLERR (proc_pid_mountinfo(5)). The file is always
    readable besides, so it is asked for POLLPRI in an epoll set of its own, whose descriptor is readable exactly when
    something has changed; to ask it makes it wait again.
    """
    if sys.platform != "linux":
        raise Unsupported("only Linux has mountinfo")
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as held:
        changes = held.enter_context(select.epoll())
        for process in ("1", "self"):
            with contextlib.suppress(OSError):
                file = held.enter_context((procfs / process / "mountinfo").open("rb"))
                changes.register(file, select.EPOLLPRI)
        changes.poll(0)

        def changed() -> None:
            changes.poll(0)
            on_change()

        loop.add_reader(changes.fileno(), changed)
        held.callback(loop.remove_reader, changes.fileno())
        yield
