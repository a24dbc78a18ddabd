"""What is said of the machine itself, from what was read of it."""

import shlex
from functools import lru_cache

from msgspec import Struct

from holdfast_agent.probes.boot_evidence import BootEvidence
from holdfast_agent.probes.clock_linux import ClockState
from holdfast_wire.message import Value


class HostRaw(Struct, frozen=True, kw_only=True):
    """What was read of the machine."""

    boot_id: str
    machine_id: str
    os_release: str
    kernel: str
    architecture: str
    uptime_seconds: float
    suspended_seconds: float
    wall: float
    booted_at: float
    """Of /proc/stat, in whole seconds: stands still between steps of the clock."""
    meminfo: str
    vendor: str = ""
    product: str = ""
    clock: ClockState | None = None
    clock_unreadable: str = ""
    step_seconds: float | None = None
    """A step that this look was the first to notice."""
    steps_total: int = 0
    newest_step_seconds: float | None = None
    evidence: BootEvidence | None = None
    """None: gathered before, and the machine has long finished booting."""


def identity_facts(raw: HostRaw) -> dict[str, Value]:
    """Who the machine is and since when it runs. What it does not know of itself is left out."""
    stated: dict[str, Value] = {
        "boot_id": raw.boot_id,
        "machine_id": raw.machine_id,
        "os_name": parse_os_release(raw.os_release).get("PRETTY_NAME", ""),
        "kernel": raw.kernel,
        "architecture": raw.architecture,
        "vendor": raw.vendor,
        "product": raw.product,
    }
    return {name: value for name, value in stated.items() if value} | {
        "boot_timestamp_seconds": raw.booted_at,
        "uptime_seconds": round(raw.uptime_seconds, 1),
        "suspended_seconds": round(raw.suspended_seconds, 1),
    }


def clock_facts(raw: HostRaw, missing: dict[str, str]) -> dict[str, Value]:
    """Whether the clock is right, and its steps."""
    facts: dict[str, Value] = {"clock_steps_total": raw.steps_total}
    if raw.newest_step_seconds is not None:
        facts["clock_step_seconds"] = round(raw.newest_step_seconds, 6)
    if raw.clock is None:
        missing["clock_synchronized"] = raw.clock_unreadable
        return facts
    facts["clock_synchronized"] = raw.clock.synchronized
    facts["clock_error_seconds"] = raw.clock.max_error_usec / 1e6
    return facts


def memory_facts(meminfo: str, missing: dict[str, str]) -> dict[str, Value]:
    """Memory, and what of it waits to be written: `Dirty` is not yet on its way, `Writeback` is (proc_meminfo(5))."""
    sizes = parse_meminfo(meminfo)
    if not sizes:
        missing["memory_bytes"] = "/proc/meminfo cannot be read"
        return {}
    facts: dict[str, Value] = {"dirty_bytes": sizes.get("Dirty", 0) + sizes.get("Writeback", 0)}
    for fact, field in (("memory_bytes", "MemTotal"), ("memory_available_bytes", "MemAvailable")):
        if field in sizes:
            facts[fact] = sizes[field]
    return facts


def parse_meminfo(text: str) -> dict[str, int]:
    """Field → bytes."""
    sizes = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if len(fields) == 2 and fields[1] == "kB" and fields[0].isdigit():
            sizes[name] = int(fields[0]) * 1024
    return sizes


@lru_cache(maxsize=1)
def parse_os_release(text: str) -> dict[str, str]:
    """The assignments of os-release(5), which are shell's."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if not equals or name.startswith("#"):
            continue
        try:
            found[name.strip()] = "".join(shlex.split(value))
        except ValueError:
            continue  # an unclosed quote
    return found
