"""`dmsetup table`, what it says of how a device lies on others (kernel: Documentation/admin-guide/device-mapper).

vg-data: 0 409600 linear 8:16 2048
vg-safe: 0 409600 raid raid1 3 0 region_size 1024 2 253:1 253:2 253:3 253:4
vg-fast: 0 409600 cache 253:7 253:6 253:8 128 2 metadata2 writethrough smq 0
"""

from msgspec import Struct


class Target(Struct, frozen=True):
    """One line of a device's table."""

    type: str
    arguments: tuple[str, ...]


class RaidTarget(Struct, frozen=True):
    """What a `raid` target says."""

    level: str
    """`raid1`, `raid5_ls`, `raid10`, …"""
    members: tuple[str, ...]
    """major:minor of the data devices; the metadata beside them is left out, as are missing members."""
    missing: int


class CacheTarget(Struct, frozen=True):
    """What a `cache` or `writecache` target says."""

    mode: str
    cache: str
    """major:minor, as the next."""
    origin: str


def parse_tables(text: str) -> dict[str, tuple[Target, ...]]:
    """Mapper name → its targets; lines of another form are passed over."""
    tables: dict[str, list[Target]] = {}
    for line in text.splitlines():
        name, separator, rest = line.partition(": ")
        fields = rest.split()
        if separator and len(fields) > 2 and fields[0].isdigit() and fields[1].isdigit():
            tables.setdefault(name, []).append(Target(fields[2], tuple(fields[3:])))
    return {name: tuple(targets) for name, targets in tables.items()}


def raid_target(arguments: tuple[str, ...]) -> RaidTarget | None:
    """`<type> <#params> <params> <#devices> {<metadata> <data>}`, `-` for what is missing; None when cut short."""
    try:
        devices_at = 2 + int(arguments[1])
        count = int(arguments[devices_at])
        data = arguments[devices_at + 2 :: 2][:count]
    except (ValueError, IndexError):
        return None
    if len(data) < count:
        return None
    present = tuple(device for device in data if device != "-")
    return RaidTarget(arguments[0], present, count - len(present))


def cache_target(type_: str, arguments: tuple[str, ...]) -> CacheTarget | None:
    """`cache <metadata> <cache> <origin> <block> <#features> <features> …`, written back unless a feature says else.

    `writecache <p|s> <origin> <cache> …` always writes back. None when cut short.
    """
    try:
        if type_ == "writecache":
            return CacheTarget("writeback", cache=arguments[2], origin=arguments[1])
        features = arguments[5 : 5 + int(arguments[4])]
        mode = next((word for word in features if word in ("writethrough", "passthrough")), "writeback")
        return CacheTarget(mode, cache=arguments[1], origin=arguments[2])
    except (ValueError, IndexError):
        return None
