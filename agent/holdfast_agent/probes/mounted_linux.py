"""What is mounted, and on which device: where every probe that speaks of volumes begins."""

from pathlib import Path

from msgspec import Struct, field

from holdfast_agent.probe import ProbeContext, Unsupported
from holdfast_agent.probes.block_devices_linux import name_of_number, name_of_path
from holdfast_agent.probes.mountinfo import Mount
from holdfast_agent.probes.small_file import read_small
from holdfast_agent.probes.volume_choice import Volume
from holdfast_agent.probes.volume_list import list_volumes


class Mounted(Struct, frozen=True, kw_only=True):
    """The machine's mounts as the kernel lists them."""

    machine_mounts: str
    """Process 1's mountinfo; empty where the agent may not read it."""
    own_mounts: str
    devices: dict[str, str] = field(default_factory=dict)
    """Mountpoint of a volume → the kernel's name of its block device; those without one are left out."""

    def volumes(self) -> tuple[Volume, ...]:
        return list_volumes(self.machine_mounts, self.own_mounts)


def read_mounted(context: ProbeContext) -> Mounted:
    """Read it now. Raises `Unsupported` where the kernel lists no mounts."""
    own = text_of(context.procfs / "self" / "mountinfo")
    if not own:
        raise Unsupported(f"there is no {context.procfs}/self/mountinfo")
    machine = text_of(context.procfs / "1" / "mountinfo")
    named = {
        volume.mount.mountpoint: device_of(context.sysfs, volume.mount)
        for volume in list_volumes(machine, own)
    }
    return Mounted(
        machine_mounts=machine, own_mounts=own, devices={at: name for at, name in named.items() if name}
    )


def device_of(sysfs: Path, mount: Mount) -> str:
    """The kernel's name of the block device below; empty where there is none."""
    name = name_of_number(sysfs, mount.number) if mount.major else None
    if name is None and mount.source.startswith("/dev/") and not mount.fstype.startswith("fuse"):
        name = name_of_path(mount.source)
    return name or ""


def text_of(path: Path) -> str:
    """A small file's text; empty where it cannot be read."""
    try:
        return read_small(path)
    except OSError:
        return ""


def number_in(path: Path) -> int | None:
    """The whole number a small file holds, `0x` allowed; None where it cannot be read."""
    try:
        return int(text_of(path), 0)
    except ValueError:
        return None
