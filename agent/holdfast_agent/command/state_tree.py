"""Where services keep their state, as a tree: service, path (role), mount, device, class; what is wrong stands in place.

    postgresql@15-main.service  postgresql
    ├─ /var/lib/postgresql/15/main (data)  /  sda1 ext4  D2
    └─ …/pg_wal -> /mnt/pg_wal (wal)  /mnt  sdb1 ext4  D1
         ! needs D2

The troubled ones come first. A service of which nothing but open files is known is listed by name at the end.
"""

import textwrap
from collections.abc import Mapping, Sequence

from holdfast_wire import Resource
from holdfast_wire.message import Value

Facts = Mapping[str, Value]
_LASTING = ("data", "wal", "binlog", "tablespace", "keys")
_NAMED_MAX = 8
WIDTH = 110


def state_tree(paths: Sequence[Resource], services: Sequence[Resource], volumes: Sequence[Resource]) -> str:
    """The whole tree; empty when no service keeps anything."""
    by_service: dict[str, list[Facts]] = {}
    for path in paths:
        by_service.setdefault(str(path.facts.get("service", "")), []).append(path.facts)
    about: dict[str, dict[str, Value]] = {}
    for service in services:
        about.setdefault(service.name, {}).update(service.facts)
    mounted = {volume.name: volume.facts for volume in volumes}
    shown, unexplained = [], []
    for name in sorted({*by_service, *(name for name, facts in about.items() if facts.get("stateful"))}):
        facts, found = about.get(name, {}), by_service.get(name, [])
        wrong = service_troubles(facts) or any(path_troubles(each, _volume(each, mounted)) for each in found)
        if facts.get("stateful") or wrong or any(each.get("confidence") != "low" for each in found):
            shown.append((not wrong, name, _branch(name, facts, found, mounted)))
        else:
            unexplained.append(name.removesuffix(".service"))
    if not shown and not unexplained:
        return ""
    lines = ["STATE"]
    for _, _, branch in sorted(shown):
        lines += branch
    if unexplained:
        more = f" and {len(unexplained) - _NAMED_MAX} more" if len(unexplained) > _NAMED_MAX else ""
        lines.append(f"  write files nobody explains: {', '.join(unexplained[:_NAMED_MAX])}{more}")
    return "\n".join(lines)


def _branch(name: str, facts: Facts, found: list[Facts], volumes: Mapping[str, Facts]) -> list[str]:
    troubles = service_troubles(facts)
    lines = ["  ".join([name, *_known(facts, "engine")]), *_told(troubles, "  ")]
    ordered = sorted(found, key=lambda each: (each.get("confidence") == "low", str(each.get("path"))))
    for place, each in enumerate(ordered):
        last = place == len(ordered) - 1
        volume = _volume(each, volumes)
        lines.append(f"{'└─' if last else '├─'} {_leaf(each, ordered[:place], volume)}")
        lines += _told(path_troubles(each, volume), "     " if last else "│    ")
    return lines


def _told(troubles: list[str], indent: str) -> list[str]:
    lines = []
    for trouble in troubles:
        lines += textwrap.wrap(
            f"! {trouble}",
            WIDTH,
            initial_indent=indent,
            subsequent_indent=f"{indent}  ",
            break_long_words=False,
        )
    return lines


def _leaf(facts: Facts, above: Sequence[Facts], volume: Facts) -> str:
    path, end = str(facts.get("path", "")), str(facts.get("resolved_path", ""))
    inside = [home for home in (str(each.get("path")) for each in above) if path.startswith(f"{home}/")]
    shown = f"…{path[len(max(inside, key=len)) :]}" if inside else path
    way = f"{shown} -> {end}" if end and end != path else shown
    medium = " ".join([*_known(facts, "device"), *_known(facts, "fstype")])
    gone = facts.get("volatile") or facts.get("container_layer")
    class_ = 0 if gone else volume.get("durability_class")
    parts = [
        f"{way} ({facts.get('role', 'unknown')})",
        *_known(facts, "mountpoint"),
        *([medium] if medium else []),
    ]
    if facts.get("resolved"):
        parts.append("D?" if class_ is None else f"D{class_}")
    return "  ".join(parts)


def _volume(facts: Facts, volumes: Mapping[str, Facts]) -> Facts:
    return volumes.get(str(facts.get("mountpoint", "")), {})


def _known(facts: Facts, name: str) -> list[str]:
    return [str(facts[name])] if facts.get(name) else []


def service_troubles(facts: Facts) -> list[str]:
    """What is wrong with how a service keeps its state."""
    said = []
    if facts.get("stateful") and facts.get("syncs_disabled"):
        said.append(f"fsync does nothing: {facts.get('syncs_disabled_by', '')}")
    if facts.get("state_paths_unresolved"):
        said.append(f"unknown: {facts.get('state_unresolved', '')}")
    if facts.get("stateful") and facts.get("needs_daemon_reload"):
        said.append("its unit file has changed since systemd read it")
    return said


def path_troubles(facts: Facts, volume: Facts) -> list[str]:
    """What is wrong with a path, worst first; `volume` is the one it ends on, without facts when none is known."""
    required, class_ = facts.get("required_class", 0), volume.get("durability_class")
    if not isinstance(required, int) or not required:
        return []
    said = []
    if facts.get("container_layer"):
        said.append("goes with the container")
    elif facts.get("container_volume") == "empty_dir":
        said.append("an emptyDir: goes with its pod")
    elif facts.get("volatile"):
        said.append(f"in memory or gone with the service, needs D{required}")
    elif isinstance(class_, int) and class_ < required:
        said.append(f"needs D{required}")
    if facts.get("mount_missing"):
        said.append(f"nothing is mounted on {facts.get('missing_mountpoint')}")
    if facts.get("shadowed"):
        said.append(f"a mount hides {facts.get('shadowed_file')}, which it writes to")
    if facts.get("moved"):
        said.append(f"moved: before, {facts.get('moved_from')}")
    if facts.get("deleted_open_bytes") and facts.get("role") in _LASTING:
        said.append(f"deleted while open: {facts.get('deleted_open_file')}")
    if required < 2:  # a log may be lost by what only the weightier roles mind
        return said
    if facts.get("syncs_ignored"):
        said.append("the mount ignores fsync")
    if facts.get("same_disk_as_data"):
        said.append(f"on one disk with what it is a backup of: {facts.get('same_disk_as')}")
    if facts.get("container_volume") == "anonymous":
        said.append("a container's volume without a name")
    if facts.get("container_volume") == "host_path":
        said.append("a hostPath: stays here when its pod goes elsewhere")
    if facts.get("cleaned"):
        said.append(str(facts.get("cleaned_by", "gets emptied")))
    if facts.get("mount_dependency") is False:
        said.append("the unit may start without this mount")
    if volume.get("dead") or volume.get("writable") is False:
        said.append("the volume takes no writes")
    return said
