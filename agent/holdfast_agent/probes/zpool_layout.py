"""`zpool status -P -L`: which devices a pool lies on, and how (zpool-status(8), zpoolconcepts(7)).

    \tNAME                 STATE     READ WRITE CKSUM
    \ttank                 ONLINE       0     0     0
    \t  mirror-0           ONLINE       0     0     0
    \t    /dev/sdb1        ONLINE       0     0     0
    \tlogs
    \t  /dev/nvme0n1p1     ONLINE       0     0     0

A pool needs all its top-level vdevs, those under `special` and `dedup` included, and for the last seconds of
synchronous writes those under `logs`. It needs nothing of `cache` and `spares`.
"""

from msgspec import Struct

_UNNEEDED = frozenset({"cache", "spares"})
_CLASSES = frozenset({"logs", "special", "dedup", *_UNNEEDED})
_GONE = frozenset({"FAULTED", "OFFLINE", "REMOVED", "UNAVAIL"})


class Vdev(Struct, frozen=True):
    """A device, a file, or a group of them."""

    name: str
    """`mirror-0`, `raidz2-1`, `/dev/sdb1`."""
    present: bool
    children: tuple["Vdev", ...] = ()


def parse_zpool_layout(text: str) -> dict[str, tuple[Vdev, ...]]:
    """Pool → what it needs, all of it."""
    pools: dict[str, tuple[Vdev, ...]] = {}
    pool, rows, listing = "", list[tuple[int, str, bool]](), False
    for line in [*text.splitlines(), "  pool:"]:
        label = line.strip().partition(":")[0] if not line.startswith("\t") else ""
        if label == "pool":
            if pool and rows:
                pools[pool] = _needed(pool, rows)
            pool, rows, listing = line.partition(":")[2].strip(), [], False
        elif label:
            listing = label == "config"
        elif listing and line.strip() and not line.strip().startswith("NAME "):
            body = line[1:]
            words = body.split()
            depth = (len(body) - len(body.lstrip(" "))) // 2
            rows.append((depth, words[0], len(words) < 2 or words[1] not in _GONE))
    return pools


def _needed(pool: str, rows: list[tuple[int, str, bool]]) -> tuple[Vdev, ...]:
    """What stands below the pool's own line and the lines of its classes."""
    needed: list[Vdev] = []
    at = 0
    while at < len(rows):
        depth, name, _ = rows[at]
        children, after = _children(rows, at + 1, depth)
        if depth == 0 and (name == pool or name in _CLASSES) and name not in _UNNEEDED:
            needed += children
        at = after
    return tuple(needed)


def _children(rows: list[tuple[int, str, bool]], at: int, depth: int) -> tuple[list[Vdev], int]:
    found = []
    while at < len(rows) and rows[at][0] > depth:
        own_depth, name, present = rows[at]
        below, at = _children(rows, at + 1, own_depth)
        found.append(Vdev(name, present, tuple(below)))
    return found, at
