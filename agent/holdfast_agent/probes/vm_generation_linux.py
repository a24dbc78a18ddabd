"""Copies of the machine, as the hypervisor announces them.

The kernel's vmgenid driver sends a uevent with `NEW_VMGENID=1` when the machine goes on from a copy of its memory, a clone
or a rollback (drivers/virt/vmgenid.c; kernels since 6.10; 6.1 sends none, measured). `kernel_log` tells the same from the line that
older kernels write too; this one needs no right to read the kernel log. Nothing shows a copy that was made while no
agent listened.
"""

import asyncio
import contextlib

from holdfast_agent.probe import Emit, Happening, Refresh, Signal, Watch
from holdfast_agent.probes.uevent_linux import Uevent, take, uevents
from holdfast_wire.fact import ResourceKind


class VmGeneration(Watch):
    """The announcement that this machine is a copy."""

    name = "vm_generation"
    platforms = frozenset({"linux"})
    cost = "where the kernel log may not be read either, a clone or a rollback goes unnoticed"
    events = ("vm_generation_change",)
    told_by = (Signal(by="the kernel's announcement of a new generation", events=events),)

    def check(self) -> None:
        with uevents():
            pass

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Report each announcement."""
        loop = asyncio.get_running_loop()
        announced: asyncio.Queue[Uevent] = asyncio.Queue()
        with contextlib.ExitStack() as held:
            listener = held.enter_context(uevents())

            def heard(event: Uevent) -> None:
                if forked(event):
                    announced.put_nowait(event)

            loop.add_reader(listener.fileno(), take, listener, heard)
            held.callback(loop.remove_reader, listener.fileno())
            while True:
                event = await announced.get()
                await emit(
                    Happening(
                        type="vm_generation_change",
                        resource_kind=ResourceKind.NODE,
                        resource=self.context.node,
                        at=self.context.wall_clock(),
                        summary="the hypervisor resumed this machine from a copy of its memory",
                        fields={
                            "boot_id": self.context.boot_id,
                            "device": event.get("DEVPATH", "")[:200],
                        },
                    )
                )


def forked(event: Uevent) -> bool:
    """Whether the announcement says so. The value has always been 1, and no meaning of another is documented."""
    return "NEW_VMGENID" in event
