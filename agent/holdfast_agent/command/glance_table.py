"""A glance as text that a person takes in at once: troubles first, numbers in the units people use."""

import textwrap
from collections import defaultdict
from collections.abc import Sequence

from holdfast_agent.command.glance import Glance
from holdfast_agent.command.state_tree import state_tree
from holdfast_wire import Resource, Section, SectionStatus
from holdfast_wire.message import Value

WIDTH = 110
_OWN_TABLE = ("node", "volume", "service", "state_path", "device")
_DEVICE_COLUMNS = frozenset(
    {"type", "size_bytes", "medium", "model", "parents", "leaf_devices", "durability_class"}
    | {"durability_class_reason", "durability_class_declared"}
)


def render(node: str, glance: Glance) -> str:
    """The whole page."""
    resources: dict[str, list[Resource]] = defaultdict(list)
    for resource in glance.resources():
        resources[resource.kind].append(resource)
    blocks = [
        _node(node, resources["node"]),
        _volumes(resources["volume"], _witnessed(glance)),
        state_tree(resources["state_path"], resources["service"], resources["volume"]),
        _devices(resources["device"]),
        _services(_managed(resources["service"])),
        *(_others(kind, resources[kind]) for kind in sorted(resources) if kind not in _OWN_TABLE),
        _happened(glance),
        _probes(glance.sections),
    ]
    return "\n\n".join(block for block in blocks if block)


def _node(node: str, resources: list[Resource]) -> str:
    facts: dict[str, Value] = {}
    for resource in resources:
        facts |= resource.facts
    what = [str(facts[name]) for name in ("os_name", "kernel", "architecture") if facts.get(name)]
    if "uptime_seconds" in facts:
        what.append(f"up {_duration(facts['uptime_seconds'])}")
    if "memory_bytes" in facts:
        what.append(f"memory {_size(facts['memory_bytes'])}")
    said = []
    if facts.get("boot_dirty"):
        said.append(
            f"  the previous run did not end in order: {facts.get('boot_dirty_evidence', '')}".rstrip(": ")
        )
    if facts.get("clock_synchronized") is False:
        said.append("  the clock is not synchronised")
    if facts.get("preemptible"):
        said.append(f"  it may be taken back at any time: {facts.get('preemptible_reason', '')}")
    return "\n".join([f"{node}  {', '.join(what)}".rstrip(), *said])


def _witnessed(glance: Glance) -> dict[str, str]:
    """Volume → how it is witnessed, in a word or two."""
    section = glance.witness
    return {each.name: witness_state(each.facts) for each in (section.resources if section else ())}


def witness_state(facts: dict[str, Value]) -> str:
    """How a volume is witnessed; where it is not, why, without the cure that `doctor` tells."""
    if not facts.get("witness_enabled"):
        reason = str(facts.get("witness_reason", "")).partition(":")[0].partition(";")[0]
        return f"no: {reason}" if reason else ""
    mode = facts.get("witness_mode", "")
    return f"every {_plain(facts['witness_interval_seconds'])} s{f', {mode}' if mode else ''}"


def _volumes(resources: list[Resource], witnessed: dict[str, str]) -> str:
    rows = [("VOLUME", "TYPE", "SIZE", "FREE", "", "INODES", "CLASS", "STATE", "WITNESSED")]
    reasons = []
    for resource in sorted(resources, key=lambda each: each.name):
        facts = resource.facts
        rows.append(
            (
                str(facts.get("mountpoint", resource.name)),
                str(facts.get("fstype", "")),
                _size(facts.get("size_bytes")),
                _size(facts.get("free_bytes")),
                _percent(facts.get("free_ratio")),
                _percent(facts.get("inodes_free_ratio")),
                _class(facts),
                volume_state(facts),
                witnessed.get(resource.name, ""),
            )
        )
        if reason := facts.get("durability_class_reason"):
            reasons += _note(f"{resource.name} {_class(facts)}", str(reason))
    return "\n".join([_table(rows, right={2, 3, 4, 5}), *reasons]) if resources else ""


def _devices(resources: list[Resource]) -> str:
    """What each is and rests on; what other probes say of it stands below."""
    if not resources:
        return ""
    rows = [("DEVICE", "TYPE", "SIZE", "CLASS", "MEDIUM", "ON")]
    more = []
    for resource in sorted(resources, key=lambda each: each.name):
        facts = resource.facts
        medium = " ".join(str(facts[fact]) for fact in ("medium", "model") if facts.get(fact))
        rows.append(
            (
                resource.name,
                str(facts.get("type", "")),
                _size(facts.get("size_bytes")),
                _class(facts),
                medium,
                str(facts.get("parents", "")),
            )
        )
        rest = {name: value for name, value in facts.items() if name not in _DEVICE_COLUMNS}
        if rest:
            more += _note(resource.name, ", ".join(f"{name} {_plain(value)}" for name, value in rest.items()))
    return "\n".join([_table(rows, right={2}), *more])


def _class(facts: dict[str, Value]) -> str:
    """`D2`; `D2!` when it is the operator's word, `?` when nobody knows."""
    if "durability_class" not in facts:
        return "?" if "durability_class_reason" in facts else ""
    return f"D{facts['durability_class']}{'!' if facts.get('durability_class_declared') else ''}"


def volume_state(facts: dict[str, Value]) -> str:
    """What a volume does with writes, in a word or with its reason."""
    if facts.get("expected_mounted") and facts.get("mounted") is False:
        return f"NOT MOUNTED {facts.get('mount_trouble', '')}".rstrip()
    reason = str(facts.get("unwritable_reason", ""))
    if facts.get("reachable") is False:
        return f"DOES NOT ANSWER {reason}".rstrip()
    if facts.get("dead"):
        return f"DEAD {reason}".rstrip()
    if facts.get("read_only"):
        return f"READ-ONLY {reason}".rstrip() if facts.get("expected_writable") else "read-only"
    if facts.get("writable") is False:
        return f"NOT WRITABLE {reason}".rstrip()
    return "volatile" if facts.get("volatile") else "writable" if facts.get("writable") else "unknown"


def service_trouble(facts: dict[str, Value]) -> str:
    """Why a service is not as it should be; empty when it is, or is not meant to run."""
    if facts.get("start_limit_hit"):
        return "given up by systemd after too many restarts"
    if facts.get("failed"):
        result, status = facts.get("result", ""), facts.get("exit_status")
        return f"failed ({result}{f', status {status}' if status is not None else ''})"
    if facts.get("restart_looping"):
        return f"restarting again and again ({facts.get('restarts_total', '?')} times)"
    return ""


def _managed(resources: list[Resource]) -> list[Resource]:
    """The services that the service manager tells of. What only keeps state somewhere stands in the tree."""
    return [resource for resource in resources if "up" in resource.facts]


def _services(resources: list[Resource]) -> str:
    if not resources:
        return ""
    ordered = sorted(resources, key=lambda each: each.name)
    troubled = [(each.name, service_trouble(each.facts)) for each in ordered]
    up = [_short(each.name) for each in ordered if each.facts.get("up") and not service_trouble(each.facts)]
    down = [
        _short(each.name) for each in ordered if not each.facts.get("up") and not service_trouble(each.facts)
    ]
    lines = [f"SERVICES  {len(resources)} watched, {len(up)} up"]
    lines += [
        f"  {name}  {trouble.upper() if len(trouble) < 8 else trouble}"
        for name, trouble in troubled
        if trouble
    ]
    lines += _listed("up", up) + _listed("not running", down)
    return "\n".join(lines)


def _others(kind: str, resources: list[Resource]) -> str:
    lines = [kind.upper()]
    for resource in sorted(resources, key=lambda each: each.name):
        facts = ", ".join(f"{name} {_plain(value)}" for name, value in resource.facts.items())
        lines += textwrap.wrap(
            f"{resource.name}  {facts}", WIDTH, initial_indent="  ", subsequent_indent="      "
        )
    return "\n".join(lines)


def _happened(glance: Glance) -> str:
    if not glance.happenings:
        return ""
    return "\n".join(["HAPPENED", *(f"  {each.resource}: {each.summary}" for each in glance.happenings)])


def _probes(sections: list[Section]) -> str:
    rows = [("PROBE", "STATUS", "TOOK", "")]
    details = []
    for section in sections:
        rows.append(
            (
                section.probe,
                section.status.value,
                f"{section.duration_seconds * 1000:.0f} ms",
                _counted(section),
            )
        )
        if section.status is not SectionStatus.OK and section.detail:
            details += _note(section.probe, section.detail)
        for subject, reason in sorted(section.missing.items()):
            details += _note(f"{section.probe}: {subject} is missing", reason)
    return "\n".join([_table(rows, right={2}), *details])


def _counted(section: Section) -> str:
    counts: dict[str, int] = defaultdict(int)
    for resource in section.resources:
        counts[resource.kind] += 1
    return ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(counts.items()))


def _note(subject: str, text: str) -> list[str]:
    return textwrap.wrap(f"{subject}: {text}", WIDTH, initial_indent="  ", subsequent_indent="      ")


def _listed(word: str, names: list[str]) -> list[str]:
    if not names:
        return []
    return textwrap.wrap(
        f"{word}: {', '.join(names)}", WIDTH, initial_indent="  ", subsequent_indent="      "
    )


def _short(name: str) -> str:
    return name.removesuffix(".service")


def _table(rows: Sequence[tuple[str, ...]], *, right: set[int]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _size(value: Value | None) -> str:
    if not isinstance(value, int | float):
        return ""
    number = float(value)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(number) < 1024 or unit == "TiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit in ("B", "KiB") or number >= 100 else f"{number:.1f} {unit}"


def _percent(value: Value | None) -> str:
    return f"{value:.0%}" if isinstance(value, int | float) else ""


def _duration(value: Value) -> str:
    seconds = float(value)
    if seconds >= 172_800:
        return f"{seconds / 86_400:.0f} days"
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def _plain(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
