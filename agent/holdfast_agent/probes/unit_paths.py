"""Paths that a unit declares (systemd.exec(5)), and which mounts it cannot start without."""

import re

from holdfast_agent.probes.engines.engine import Found
from holdfast_agent.probes.mountinfo import FstabEntry
from holdfast_agent.probes.state_raw import UnitRaw
from holdfast_agent.probes.state_roles import below, role_of_place

SYSTEMD = "systemd"
_DIRECTORIES = (
    ("state_directories", "/var/lib", "data"),
    ("logs_directories", "/var/log", "log"),
    ("cache_directories", "/var/cache", "cache"),
    ("configuration_directories", "/etc", "config"),
)
_MAY_FAIL = frozenset({"nofail", "noauto", "_netdev", "x-systemd.automount"})
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


def declared_paths(unit: UnitRaw) -> list[Found]:
    """What the unit says it writes to. Its private /tmp is its own affair and not named."""
    found = [
        # Directory=NAME:LINK names a link besides.
        Found(path=f"{base}/{name.partition(':')[0]}", role=role, source=SYSTEMD, confidence="medium")  # type: ignore[arg-type]  # roles of the table above
        for field, base, role in _DIRECTORIES
        for name in getattr(unit, field)
    ]
    for path in (*unit.read_write_paths, *unit.bind_paths):
        path = path.lstrip("-+")
        role = role_of_place(path)
        # That a unit may write to /etc does not say that it keeps anything there.
        if role not in ("runtime", "temp", "config") and path.startswith("/") and path != "/":
            found.append(Found(path=path, role=role, source=SYSTEMD, confidence="medium"))
    return found


def depends_on(unit: UnitRaw, mountpoint: str, entry: FstabEntry | None) -> bool:
    """Whether the unit cannot start without that mount: by RequiresMountsFor=, Requires= or BindsTo=.

    systemd adds the first by itself for directories the unit declares (systemd.exec(5), "Implicit dependencies"). And
    without a mount that fstab has and that may not fail, the machine boots to its emergency shell and not to a unit
    with default dependencies (systemd.mount(5), fstab; local-fs.target in systemd.special(7)).
    """
    if mountpoint == "/":
        return True
    if entry is not None and not _MAY_FAIL & set(entry.options) and "sysinit.target" in unit.required_units:
        return True
    required = {mount_of_unit(name) for name in unit.required_units if name.endswith(".mount")}
    return mountpoint in required or any(below(path, mountpoint) for path in unit.requires_mounts_for)


def mount_of_unit(name: str) -> str:
    """`srv-pg\\x2ddata.mount` → `/srv/pg-data` (systemd-escape(1))."""
    body = name.removesuffix(".mount")
    if body == "-":
        return "/"
    return "/" + _ESCAPED.sub(lambda match: chr(int(match[1], 16)), body.replace("-", "/"))
