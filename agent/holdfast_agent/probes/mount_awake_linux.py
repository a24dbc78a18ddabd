"""A watch for every poll that speaks of volumes: it has it look whenever something is mounted, unmounted or remounted.

A volume that is gone must leave all sections at once, or it would linger as a ghost until the slowest has looked.
"""

import asyncio
from typing import ClassVar

from holdfast_agent.probe import Emit, Refresh, Signal, Watch
from holdfast_agent.probes.mount_watch_linux import MOUNT, mount_changes
from holdfast_agent.probes.paced_refresh import paced


class MountAwake(Watch):
    """To be named beside `Poll[…]`; no probe by itself."""

    platforms: ClassVar[frozenset[str]] = frozenset()
    told_by: ClassVar[tuple[Signal, ...]] = (Signal(by=MOUNT),)
    """Which volumes there are; a poll of which a mount changes facts names them itself."""

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Look at once, but not more than once a second while mounts come and go by the dozen."""
        with mount_changes(self.context.procfs, paced(refresh)):
            await asyncio.Event().wait()
