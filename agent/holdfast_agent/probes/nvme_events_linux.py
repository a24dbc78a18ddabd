"""What an NVMe tells by itself: asynchronous events about its errors and its health.

The kernel keeps a request open for them and passes each on as a uevent of the controller, `NVME_AEN=0x000101`
(nvme_aen_uevent in drivers/nvme/host/core.c). The number: type in bits 0 to 2, information in bits 8 to 15, the log that
says more in bits 16 to 23 (NVM Express Base Specification, Asynchronous Event Request). Notices – namespaces, firmware,
paths – say nothing of health and are passed over. A device sends a warning again only after its log was read, which
smartctl does.
"""

from pathlib import Path
from typing import NamedTuple

from holdfast_agent.probes.sysfs_linux import names_in
from holdfast_agent.probes.uevent_linux import Uevent

_ERROR, _HEALTH = 0, 1
_WORDS = {
    (_ERROR, 2): "a diagnostic failed",
    (_ERROR, 3): "it has an internal error that persists",
    (_ERROR, 4): "it had an internal error that passed",
    (_HEALTH, 0): "its reliability is degraded",
    (_HEALTH, 1): "its temperature is out of bounds",
    (_HEALTH, 2): "its spare blocks are below the threshold",
}
"""Other errors are the host's mistakes: doorbells, a firmware image."""


class NvmeWarning(NamedTuple):
    """One event about a controller's health."""

    controller: str
    """`nvme0`."""
    number: int
    """As the kernel says it."""
    words: str


def warning_in(event: Uevent) -> NvmeWarning | None:
    """None for what is no warning of an NVMe's."""
    try:
        number = int(event["NVME_AEN"], 16)
    except (KeyError, ValueError):
        return None
    words = _WORDS.get((number & 0x7, number >> 8 & 0xFF))
    controller = event.get("DEVPATH", "").rpartition("/")[2]
    return NvmeWarning(controller, number, words) if words and controller.startswith("nvme") else None


def disks_of(sysfs: Path, controller: str) -> list[str]:
    """The controller's disks; itself where sysfs shows none, as with a disk that several controllers share."""
    return names_in(sysfs / "block", f"{controller}n*") or [controller]
