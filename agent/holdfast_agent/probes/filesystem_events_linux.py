"""Filesystem errors as fanotify's FAN_FS_ERROR reports them, the moment they are met (catalogue A-32).

The kernel's documents name ext4 only: others take the mark, too, and keep silent. Silence is not health.
"""

import asyncio
import contextlib
import os
import sys

from holdfast_agent.probe import Emit, Happening, ProbeStop, Refresh, Signal, Unsupported, Watch
from holdfast_agent.probes.fanotify_linux import ErrorWatch, FilesystemError
from holdfast_agent.probes.mount_watch_linux import mount_changes
from holdfast_agent.probes.mounted_linux import read_mounted
from holdfast_wire.fact import ResourceKind


class FilesystemEvents(Watch):
    """Marks every local volume and reports what it is told."""

    name = "filesystem_events"
    platforms = frozenset({"linux"})
    cost = "errors a filesystem meets are seen by the kernel log and ext4's own record only"
    events = ("filesystem_error_event",)
    told_by = (Signal(by="fanotify's filesystem errors", events=events),)

    def check(self) -> None:
        watch = ErrorWatch()
        try:
            # Whether the right is there is asked first; that this very filesystem takes no marks is another matter.
            with contextlib.suppress(OSError):
                watch.mark(self.context.rootfs.as_posix())
        finally:
            watch.close()

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Report until cancelled; filesystems mounted meanwhile are marked, too."""
        loop, stirred = asyncio.get_running_loop(), asyncio.Event()
        with contextlib.ExitStack() as held:
            watch = ErrorWatch()
            held.callback(watch.close)
            held.enter_context(mount_changes(self.context.procfs, stirred.set))
            loop.add_reader(watch.descriptor, stirred.set)
            held.callback(loop.remove_reader, watch.descriptor)
            while True:
                stirred.clear()
                places = self._mark(watch)
                for error in watch.errors():
                    await emit(self._happening(error, places.get(error.fsid, "")))
                await stirred.wait()

    def _mark(self, watch: ErrorWatch) -> dict[int, str]:
        """Mark all local volumes; to mark again changes nothing. Returns which is where, by filesystem id."""
        if sys.platform != "linux":
            raise Unsupported("only Linux has fanotify")
        places, refused = {}, list[ProbeStop]()
        for volume in read_mounted(self.context).volumes():
            if volume.isolated or volume.path is None or volume.mount.fstype in ("tmpfs", "ramfs", "overlay"):
                continue  # a mark would ask a server that may hang, or what has no errors of its own
            try:
                places[os.statvfs(volume.path).f_fsid] = volume.mount.mountpoint
                watch.mark(volume.path)
            except ProbeStop as stop:
                refused.append(stop)
            except OSError:
                continue  # unmounted just now, or a type that takes no marks
        if refused and not places:
            raise refused[0]
        return places

    def _happening(self, error: FilesystemError, mountpoint: str) -> Happening:
        words = os.strerror(error.error) if error.error else "an error"
        many = f", and {error.count - 1} more before it was read" if error.count > 1 else ""
        return Happening(
            type="filesystem_error_event",
            resource_kind=ResourceKind.VOLUME,
            resource=mountpoint[:512] or "unknown",
            at=self.context.wall_clock(),
            summary=f"the filesystem on {mountpoint or 'an unknown mount'} met an error: {words}{many}",
            fields={"boot_id": self.context.boot_id, "errno": error.error, "count": error.count},
        )
