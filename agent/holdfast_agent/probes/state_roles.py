"""What a path is to a service, and how durable what is kept there must be (durability catalogue C2, "Roles").

2 is one persistent volume of one's own, 1 a disk of the host that survives a reboot, 0 memory.
"""

from typing import Literal, get_args

Role = Literal[
    "data", "wal", "binlog", "tablespace", "keys", "backup", "config", "log", "temp", "cache", "runtime"
]  # fmt: skip
Confidence = Literal["high", "medium", "low"]

ROLES: tuple[Role, ...] = get_args(Role)
"""The weightiest first: a path with two roles has the first."""
LASTING = 2
"""The class of what must outlive its host."""
REQUIRED_CLASS: dict[Role, int] = {
    "data": 2,
    "wal": 2,
    "binlog": 2,
    "tablespace": 2,
    "keys": 2,
    "backup": 2,
    "config": 2,
    "log": 1,
    "temp": 0,
    "cache": 0,
    "runtime": 0,
}
PROMISED: frozenset[Role] = frozenset({"data", "wal", "binlog", "tablespace", "keys"})
"""What a backup is a backup of."""
STATEFUL = PROMISED | {"backup"}
"""A service that has one of these keeps state."""

_PLACES: tuple[tuple[str, Role], ...] = (
    ("/var/log", "log"),
    ("/var/cache", "cache"),
    ("/var/backups", "backup"),
    ("/var/tmp", "temp"),
    ("/tmp", "temp"),
    ("/run", "runtime"),
    ("/var/run", "runtime"),
    ("/dev/shm", "runtime"),
    ("/etc", "config"),
)
"""By the Filesystem Hierarchy Standard and Debian's custom, for paths that nobody explains."""


def role_of_place(path: str) -> Role:
    """What is usually kept there; data where the standard says nothing."""
    return next((role for place, role in _PLACES if below(path, place)), "data")


def below(path: str, place: str) -> bool:
    """Whether the path is the place or inside it."""
    return path == place or path.startswith(place.rstrip("/") + "/")
