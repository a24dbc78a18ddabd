"""Where a node's services keep their state: service, path and role, mount, medium, class. What is wrong comes first.

The class is the volume's, and the volume the one that the path names; what neither says is unknown and shown as that.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from holdfast_collector.web.words import NEVER, Moment, plain
from holdfast_wire.message import Value

PATHS_SHOWN = 500

Facts = Mapping[str, Value]
Names = Mapping[tuple[str, str], list[str]]
"""(kind, name) → the alerts that fire on it."""


class StatePathView(Struct, frozen=True, kw_only=True):
    """One path."""

    path: str
    leads_to: str
    """Where its symbolic links lead; empty when they lead nowhere else."""
    role: str
    mountpoint: str
    medium: str
    """Device and filesystem."""
    words: str
    """Whether what is kept there stays."""
    tone: str
    source: str
    alerts: list[str]
    as_of: Moment


class StateView(Struct, frozen=True, kw_only=True):
    """One service and its paths."""

    service: str
    engine: str
    why: str
    """What of it is unknown or turned off."""
    alerts: list[str]
    paths: list[StatePathView]

    @property
    def troubled(self) -> bool:
        return bool(self.alerts or self.why) or any(path.tone == "bad" or path.alerts for path in self.paths)


def state_views(
    paths: Iterable[tuple[str, Facts, Moment]],
    services: Mapping[str, Facts],
    volumes: Mapping[str, Facts],
    names: Names,
) -> list[StateView]:
    """The services that keep something: the troubled first, then by name. Files nobody explains are left out."""
    kept: dict[str, list[StatePathView]] = {}
    for name, facts, as_of in paths:
        if facts.get("confidence") != "low" or names.get(("state_path", name)):
            volume = volumes.get(str(facts.get("mountpoint", "")), {})
            view = _path(facts, volume, names.get(("state_path", name), []), as_of)
            kept.setdefault(str(facts.get("service", "")), []).append(view)
    stateful = {name for name, facts in services.items() if facts.get("stateful") is True}
    views = [
        _service(name, services.get(name, {}), kept.get(name, []), names.get(("service", name), []))
        for name in sorted(stateful | kept.keys())
    ]
    return sorted(views, key=lambda view: not view.troubled)


def _service(name: str, facts: Facts, paths: list[StatePathView], alerts: list[str]) -> StateView:
    why = []
    if facts.get("state_paths_unresolved"):
        why.append(f"unknown: {facts.get('state_unresolved', '')}")
    if facts.get("syncs_disabled") is True:
        why.append(f"fsync does nothing: {facts.get('syncs_disabled_by', '')}")
    paths.sort(key=lambda path: (path.tone != "bad", not path.alerts, path.path))
    return StateView(
        service=plain(name),
        engine=plain(str(facts.get("engine", ""))),
        why=plain("; ".join(why)),
        alerts=alerts,
        paths=paths[:PATHS_SHOWN],
    )


def _path(facts: Facts, volume: Facts, alerts: list[str], as_of: Moment) -> StatePathView:
    path, end = str(facts.get("path", "")), str(facts.get("resolved_path", ""))
    tone, words = _lasts(facts, volume)
    medium = " ".join(str(facts[name]) for name in ("device", "fstype") if facts.get(name))
    return StatePathView(
        path=plain(path),
        leads_to=plain(end) if end != path else "",
        role=plain(str(facts.get("role", "unknown"))),
        mountpoint=plain(str(facts.get("mountpoint", ""))),
        medium=plain(medium),
        words=words,
        tone="unknown" if as_of is not NEVER and tone != "bad" else tone,
        source=plain(str(facts.get("source", ""))),
        alerts=alerts,
        as_of=as_of,
    )


def _lasts(facts: Facts, volume: Facts) -> tuple[str, str]:
    """Whether what is kept there stays as long as it must, in words."""
    required, class_ = facts.get("required_class"), volume.get("durability_class")
    if facts.get("container_layer") is True:
        class_, what = 0, "goes with the container"
    elif facts.get("volatile") is True:
        class_, what = 0, "in memory, or gone with the service"
    else:
        what = ""
    if facts.get("resolved") is not True:
        return "unknown", "nobody could follow it"
    if not isinstance(class_, int) or not isinstance(required, int):
        return "unknown", "nobody knows what survives there"
    shown = f"D{class_}: {what}" if what else f"D{class_}"
    if class_ < required:
        return "bad", f"{shown}, needs D{required}"
    return ("good" if required else "quiet"), shown if required else f"{shown}, which is enough"
