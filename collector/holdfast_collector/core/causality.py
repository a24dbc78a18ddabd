"""Which alert is the cause of which: along device ─▶ volume ─▶ state_path ─▶ service ─▶ group.

One dead disk makes alerts on everything above it. The one that lies deepest is told, and explains those above that say
no worse; they are kept quiet, named by it, and told after all when it ends and they still hold. The rule is narrow on
purpose, for what is kept quiet wrongly is a page that nobody gets:

- both rules have a verdict: an alert without one says nothing about state that another one could say better
- the cause was told to people, and its severity is no lower: whoever would have been woken has been
- what it says is the same or worse: a full disk does not explain state that was lost
- what says `lost` is explained by `lost` only; a sticky alert, which waits for somebody's word, by `lost` or by another sticky
  one, and whoever takes note of that one has taken note of both
- a sticky cause explains while its condition holds, not while it only waits for that word
- the memory of an event explains what began with the event: what looks back over a window ends by the clock and not by a
  repair, and a disk that lost a write an hour ago does not explain what dies on it now
- a state path that lies within another one of the same service, on the same volume, shares its fate: what the same rule says of
  the outer one explains what it says of the inner one
- for the same reason such a memory stands, and explains, as long as anything that it keeps quiet still holds: that the hour
  is over is no repair and no news, and must not page a second time for the same fault

A node is no part of this: reboots, clocks and silence are the machine's own, and no disk of it explains them.
"""

from collections.abc import Iterable, Mapping, Sequence

from holdfast_collector.core.record import Tracked
from holdfast_rules import Alert, Rule
from holdfast_rules.verdict import ROLES_THAT_MAY_VANISH, Verdict
from holdfast_wire.message import Value

Place = tuple[str, str]
"""(kind, name)"""

DEPTH = {"device": 0, "volume": 1, "state_path": 2, "service": 3, "group": 4}
"""Kind → how far above the medium; kinds that are not here explain nothing by themselves."""
TOGETHER_SECONDS = 120.0
"""How far around the beginning of an alert another one must begin to be part of it: probes look at different times, nodes
report at different paces, and are called silent after three reports."""
NAMED_MAX = 5
"""Alerts that a notice names of those it explains. The API has all of them."""

_SEVERITY = {"info": 0, "ticket": 1, "page": 2}
_VERDICT = {verdict.value: rank for rank, verdict in enumerate(Verdict)}
_NOTHING: dict[str, Value] = {}


def devices_of(volume: Mapping[str, Value]) -> list[str]:
    """The devices that a volume lies on, by its facts: the leaves first, then the one that is mounted."""
    named = str(volume.get("leaf_devices", "")).replace(",", " ").split()
    own = volume.get("device")
    return list(dict.fromkeys([*named, *([str(own)] if own else [])]))


def counts(path: Mapping[str, Value]) -> bool:
    """Whether a service's state is what lies there: not what may vanish, and not what nobody can explain."""
    return path.get("role") not in ROLES_THAT_MAY_VANISH and path.get("confidence") != "low"


def beneath(resources: Mapping[Place, Mapping[str, Value]], place: Place) -> set[Place]:
    """All that a resource rests on, and what that rests on. Nothing where that is not known."""
    kind, name = place
    facts = resources.get(place, _NOTHING)
    match kind:
        case "volume":
            return {("device", device) for device in devices_of(facts)}
        case "state_path" if "mountpoint" in facts:
            volume = ("volume", str(facts["mountpoint"]))
            return {volume, *beneath(resources, volume)}
        case "service":
            paths = {
                other
                for other, said in resources.items()
                if other[0] == "state_path" and said.get("service") == name and counts(said)
            }
            return paths.union(*(beneath(resources, path) for path in paths))
        case _:
            return set()


def around(resources: Mapping[Place, Mapping[str, Value]], place: Place) -> list[Place]:
    """The state paths that one lies within: of the same service, on the same volume. None where that is not known."""
    facts = resources.get(place, _NOTHING)
    if place[0] != "state_path" or "mountpoint" not in facts:
        return []
    path = str(facts.get("path", ""))
    return [
        other
        for other, said in resources.items()
        if other[0] == "state_path"
        and other != place
        and "path" in said
        and path.startswith(str(said["path"]).rstrip("/") + "/")
        and (said.get("service"), said.get("mountpoint")) == (facts.get("service"), facts["mountpoint"])
    ]


def may_explain(cause: Tracked, cause_rule: Rule, effect: Alert, effect_rule: Rule) -> bool:
    """Whether an alert that fires deeper may keep another one quiet; see the module's list."""
    if not (cause.notified and cause_rule.verdict and effect_rule.verdict):
        return False
    if cause_rule.timed and not began_together(effect, cause.alert):
        return False
    if cause_rule.sticky and not cause_rule.remembers and cause.alert.cleared_since is not None:
        return False
    if effect_rule.sticky and not (cause_rule.sticky or cause_rule.verdict == Verdict.LOST.value):
        return False
    return (
        _SEVERITY[cause_rule.severity] >= _SEVERITY[effect_rule.severity]
        and _VERDICT[cause_rule.verdict] >= _VERDICT[effect_rule.verdict]
    )


def began_together(effect: Alert, cause: Alert) -> bool:
    """Whether one alert began when the other did, give or take `TOGETHER_SECONDS`."""
    end = cause.pending_since if cause.fired_at is None else cause.fired_at
    return cause.pending_since - TOGETHER_SECONDS <= effect.pending_since <= end + TOGETHER_SECONDS


def order(alert: Alert) -> tuple[int, str, str, str]:
    """The deepest first, and always the same."""
    return DEPTH.get(alert.kind, len(DEPTH)), alert.node, alert.resource, alert.alertname


def root(causes: Iterable[tuple[Tracked, Rule]]) -> Tracked | None:
    """The one to begin with: the deepest, and there the worst. None of none."""
    ranked = sorted(
        causes,
        key=lambda pair: (DEPTH[pair[0].alert.kind], -_VERDICT[pair[1].verdict], order(pair[0].alert)),
    )
    return ranked[0][0] if ranked else None


def named(explained: Sequence[Tracked]) -> str:
    """What an alert explains, in words: how many, and the first of them."""
    said = [
        f"{row.alert.alertname} on {row.alert.resource or row.alert.node}" for row in explained[:NAMED_MAX]
    ]
    more = f" and {len(explained) - NAMED_MAX} more" if len(explained) > NAMED_MAX else ""
    return f"{len(explained)} alert{'s' if len(explained) != 1 else ''}: {', '.join(said)}{more}"
