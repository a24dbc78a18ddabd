"""Block devices and what each rests on: partitions, device mapper, md, bcache, loop devices, down to the disks.

How a device lies on others decides what of it survives (`durability`). Of device mapper sysfs shows only the devices
below; stripe, mirror and cache look alike there. `dmsetup table` tells them apart where the agent may ask it, and
without it no redundancy is claimed.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from holdfast_agent.probes import durability
from holdfast_agent.probes.durability import Medium, Standing
from holdfast_agent.probes.mapper_table import RaidTarget, Target, cache_target, parse_tables, raid_target
from holdfast_agent.probes.media_raw import DeviceRaw, MdRaw, MediaRaw
from holdfast_agent.probes.medium import UNKNOWN, VIRTUAL_DISK, medium_of

_PARITY = {"raid4": 1, "raid5": 1, "raid6": 2}
"""Level → how many members it can lose."""
_PLAIN = frozenset({"linear", "striped", "crypt", "thin", "thin-pool", "snapshot", "snapshot-origin"})
"""Targets that need all they lie on, and whose name tells an operator nothing more."""
_NUMBER = re.compile(r"\d+:\d+")


class BlockTree:
    """All devices of a machine; the standing of each, found once."""

    def __init__(
        self,
        raw: MediaRaw,
        declared: Mapping[str, int],
        unidentified: int | None,
        below_file: Callable[[str], Standing],
    ) -> None:
        """`declared`: kernel's name → class. `below_file` gives the standing of the filesystem a file lies on."""
        self.devices = raw.devices
        self._raw = raw
        self._declared = declared
        self._unidentified = unidentified
        self._below_file = below_file
        self._tables = parse_tables(raw.mapper_tables)
        self._by_number = {device.number: name for name, device in raw.devices.items()}
        self._found: dict[str, Standing] = {}
        self._asked: set[str] = set()

    def named(self, number: str) -> str:
        """`8:1` → `sda1`; empty when there is no such device."""
        return self._by_number.get(number, "")

    def standing(self, name: str) -> Standing:
        """Of the device with this kernel's name."""
        if name in self._found:
            return self._found[name]
        device = self.devices.get(name)
        if device is None:
            return durability.nowhere(name, "there is no such device any more")
        if name in self._asked:
            return durability.nowhere(name, "it rests on itself")
        self._asked.add(name)
        try:
            found = self._standing(name, device)
        finally:
            self._asked.discard(name)
        if name in self._declared:
            found = durability.declared(name, found, self._declared[name])
        self._found[name] = found
        return found

    def layer(self, name: str) -> str:
        """What kind of device it is, in lsblk's words."""
        device = self.devices[name]
        if device.whole:
            return "part"
        if device.mapper_uuid or device.mapper_name:
            return self._mapper_layer(device)
        if device.md is not None:
            return device.md.level or "md"
        if name.startswith("bcache"):
            return "bcache"
        if name.startswith("loop"):
            return "loop"
        return "rom" if name.startswith("sr") else "disk"

    def _standing(self, name: str, device: DeviceRaw) -> Standing:
        if device.whole:
            return durability.renamed(self.standing(device.whole), name)
        if device.mapper_uuid or device.mapper_name:
            return self._of_mapper(name, device)
        if device.md is not None:
            return self._of_md(name, device.md, device.slaves)
        if name.startswith("bcache") and device.slaves:
            return self._of_bcache(name, device)
        if device.loop_file:
            return durability.weakest(name, "loop", [self._below_file(device.loop_file)])
        if device.slaves:
            return durability.weakest(name, "", self._all(device.slaves))
        return self._of_leaf(name, device)

    def _of_leaf(self, name: str, device: DeviceRaw) -> Standing:
        medium = medium_of(name, device, self._raw.platform)
        found = durability.leaf(name, medium)
        if medium in (VIRTUAL_DISK, UNKNOWN) and self._unidentified is not None:
            return durability.declared(name, found, self._unidentified)
        return found

    def _all(self, names: Iterable[str]) -> list[Standing]:
        return [self.standing(name) for name in names]

    # ---- md and bcache -------------------------------------------------------------------------------------------

    def _of_md(self, name: str, md: MdRaw, slaves: list[str]) -> Standing:
        """Spares, journals and members that failed hold nothing that counts."""
        used = [member for member, state in md.members.items() if "in_sync" in state.split(",")]
        members = self._all(used if md.members else slaves)
        missing = durability.missing(md.degraded)
        if md.level == "raid1":
            return durability.mirrored(name, md.level, members, note=missing)
        if md.level == "raid10":
            # Two of near, far and offset copies stand in the layout's two low bytes (man 4 md, drivers/md/raid10.c).
            copies = max((md.layout & 0xFF) * (md.layout >> 8 & 0xFF), 1) if md.layout else 2
            return durability.mirrored(
                name, md.level, members, copies=max(copies - md.degraded, 1), note=missing
            )
        if md.level in _PARITY:
            return durability.parity(
                name, md.level, members, losses=_PARITY[md.level] - md.degraded, note=missing
            )
        return durability.weakest(name, md.level or "md", members, missing)

    def _of_bcache(self, name: str, device: DeviceRaw) -> Standing:
        caches = [slave for slave in device.slaves if self.devices.get(slave, _NONE).bcache_cache]
        origins = [slave for slave in device.slaves if slave not in caches]
        if not caches or not origins:
            return durability.weakest(name, "bcache", self._all(device.slaves))
        mode = device.bcache_mode.partition("[")[2].partition("]")[0]
        return durability.cached(name, "bcache", self.standing(caches[0]), self.standing(origins[0]), mode)

    # ---- device mapper -------------------------------------------------------------------------------------------

    def _mapper_layer(self, device: DeviceRaw) -> str:
        kind = device.mapper_uuid.partition("-")[0].lower()
        targets = {target.type for target in self._tables.get(device.mapper_name, ())}
        if kind == "mpath" or targets == {"multipath"}:
            return "mpath"
        if kind == "crypt" or targets == {"crypt"}:
            return "crypt"
        if kind.startswith("part"):
            return "part"
        return kind if kind in ("lvm", "dmraid") else "dm"

    def _of_mapper(self, name: str, device: DeviceRaw) -> Standing:
        layer = self._mapper_layer(device)
        shown = device.mapper_name or name
        if layer == "mpath":
            return self._of_paths(name, device)
        targets = self._tables.get(device.mapper_name, ())
        if not targets:
            return self._of_unseen_mapper(shown, layer, device)
        if len(targets) == 1 and targets[0].type not in _PLAIN:
            return self._of_target(shown, layer, device, targets[0])
        parts = [
            self._of_target(f"{shown}'s", target.type, device, target)
            for target in targets
            if target.type not in _PLAIN
        ]
        numbers = [word for target in targets if target.type in _PLAIN for word in target.arguments]
        return durability.weakest(shown, layer, [*self._numbered(numbers), *parts])

    def _of_target(self, shown: str, layer: str, device: DeviceRaw, target: Target) -> Standing:
        said = f"{layer} {target.type}"
        if target.type in ("zero", "error"):
            return durability.nowhere(shown, "it throws away what is written", durability.VOLATILE)
        if target.type == "raid" and (raid := raid_target(target.arguments)) is not None:
            return self._of_raid(shown, f"{layer} {raid.level}", raid)
        if target.type == "mirror":
            legs = [slave for slave in device.slaves if "_mlog" not in self._mapper_name(slave)]
            return durability.mirrored(shown, said, self._all(legs))
        if target.type in ("cache", "writecache"):
            cache = cache_target(target.type, target.arguments)
            if cache is not None:
                below = self.standing(self.named(cache.cache)), self.standing(self.named(cache.origin))
                return durability.cached(shown, said, *below, cache.mode)
        return durability.weakest(shown, said, self._numbered(target.arguments) or self._all(device.slaves))

    def _of_raid(self, shown: str, layer: str, raid: RaidTarget) -> Standing:
        members = self._numbered(raid.members)
        level = raid.level.partition("_")[0]
        missing = durability.missing(raid.missing)
        if level == "raid1":
            return durability.mirrored(shown, layer, members, note=missing)
        if level == "raid10":
            copies = max(2 - raid.missing, 1)
            return durability.mirrored(shown, layer, members, copies=copies, note=missing)
        if level in _PARITY:
            losses = _PARITY[level] - raid.missing
            return durability.parity(shown, layer, members, losses=losses, note=missing)
        return durability.weakest(shown, layer, members)

    def _numbered(self, words: Iterable[str]) -> list[Standing]:
        """Of the devices among the words of a table, each once; a number nobody knows is a device of no known class."""
        numbers = dict.fromkeys(word for word in words if _NUMBER.fullmatch(word))
        return [self.standing(self.named(number) or number) for number in numbers]

    def _of_unseen_mapper(self, shown: str, layer: str, device: DeviceRaw) -> Standing:
        """Without the table nothing tells a mirror from a stripe but LVM's names of the parts."""
        parts = [self._mapper_name(slave) for slave in device.slaves]
        note = ""
        if any("_rimage_" in part or "_mimage_" in part for part in parts):
            note = "whether it is a mirror shows only to root (dmsetup table)"
        if any(part.endswith(("_corig", "_wcorig")) for part in parts):
            note = "how its cache writes shows only to root (dmsetup table)"
        return durability.weakest(shown, layer, self._all(device.slaves), note)

    def _of_paths(self, name: str, device: DeviceRaw) -> Standing:
        """All paths lead to one disk, which goes by the map's name."""
        paths = self._all(device.slaves)
        media = [medium for path in paths for medium in path.leaves.values()]
        if not media:
            return durability.nowhere(device.mapper_name or name, "no path to it is left")
        found = durability.leaf(name, _agreed(media))
        level = durability.weakest(name, "", paths).level
        note = next((path.note for path in paths if path.note), "")
        chain = f"{device.mapper_name or name} (mpath) on {', '.join(device.slaves)}"
        return Standing(
            level=level,
            chain=chain,
            leaves=found.leaves,
            note=note,
            declared=any(path.declared for path in paths),
        )

    def _mapper_name(self, name: str) -> str:
        return self.devices.get(name, _NONE).mapper_name


_NONE = DeviceRaw(number="")


def _agreed(media: list[Medium]) -> Medium:
    return min(media, key=lambda medium: -1 if medium.level is None else medium.level)
