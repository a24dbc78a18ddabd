"""The verdict on every resource, renewed when something it depends on changed.

The join is by name: a state path names its service and its mountpoint, a volume its devices. What was known and is
heard of no more, without being known to be gone, is `unknown` and not forgotten: a disk that fell silent must not
vanish from the list of what must be durable.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from holdfast_collector.core.causality import devices_of
from holdfast_collector.core.effect import Commit, Effect, Refreshed, Transitioned, Turned
from holdfast_collector.core.judge import Court
from holdfast_collector.core.node import Node, ResourceKey
from holdfast_rules import Transition
from holdfast_rules.verdict import Firing, Reason, Ruling, Standing, rule
from holdfast_wire.message import Value

RELEVANT = frozenset(
    {
        "device", "durability_class", "durability_class_reason", "durability_tested", "leaf_devices", "mountpoint",
        "reporting", "required_class", "role", "service", "stateful", "witness_corrupt", "witness_loss",
        "witness_lost", "writable",
    }
)  # fmt: skip
"""The facts that verdicts are made of, besides alerts: between two reports none of them moves."""
_FIRING_TURNS = {Transition.FIRED, Transition.RESOLVED}
_ORDER = ("device", "volume", "state_path", "service", "node")
"""What rests on nothing first."""


class Ruled(Struct, frozen=True, kw_only=True):
    """A ruling and since when it stands."""

    ruling: Ruling
    since: float
    """When the verdict became what it is, by the collector's clock; at the latest when this collector started."""


class Rulings:
    """All verdicts of one collector."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[ResourceKey, Ruled]] = {}
        self.due: set[str] = set()
        """Nodes whose verdicts may have changed with the event in hand."""

    def of(self, node: str) -> Mapping[ResourceKey, Ruled]:
        """The verdicts on a node's resources, by kind and name."""
        return self._nodes.get(node, {})

    def renew(self, node: Node, firing: Mapping[ResourceKey, Sequence[Firing]], at: float) -> list[Turned]:
        """Judge the node anew, from the devices up. `firing`: the alerts that fire, by resource."""
        before = self._nodes.get(node.name, {})
        after: dict[ResourceKey, Ruled] = {}
        standings = _standings(node, before, firing)
        for kind in _ORDER:
            for standing in standings.get(kind, ()):
                key = (kind, standing.name)
                held = before.get(key)
                below = [after[place].ruling for place in _below(standing, standings) if place in after]
                ruling = rule(standing, below, held.ruling if held else None)
                if ruling is not None:
                    stands = held is not None and held.ruling.verdict is ruling.verdict
                    after[key] = Ruled(ruling=ruling, since=held.since if held and stands else at)
        self._nodes[node.name] = after
        return list(_turned(node.name, before, after, at))

    def note(self, node: Node, changed: Mapping[ResourceKey, frozenset[str]]) -> None:
        """Facts changed. The node is due when one of them is what verdicts are made of."""
        if any(not RELEVANT.isdisjoint(names) or key not in node.resources for key, names in changed.items()):
            self.due.add(node.name)

    def forget(self, node: str) -> None:
        """The node was taken out of service."""
        self._nodes.pop(node, None)


def rule_anew(
    rulings: Rulings,
    court: Court,
    nodes: Mapping[str, Node],
    at: float,
    warm: bool,
    commit: Commit,
    effects: list[Effect],
) -> None:
    """Renew the verdicts of the nodes that are due, and of those where an alert began or ended to fire."""
    rulings.due.update(
        effect.tracked.alert.node
        for effect in effects
        if isinstance(effect, Transitioned) and effect.transition in _FIRING_TURNS
    )
    while rulings.due:
        node = nodes.get(rulings.due.pop())
        turned = rulings.renew(node, court.firing_on(node.name), at) if node is not None else []
        if node is None or not turned:
            continue
        effects.extend(turned)
        # A verdict is a fact of its resource, which rules may ask for; no such rule has a say in verdicts.
        node.verdicts = {key: ruled.ruling.verdict for key, ruled in rulings.of(node.name).items()}
        changed = node.rebuild([(turn.kind, turn.resource) for turn in turned])
        court.judge(node, changed, at, warm=warm, commit=commit, effects=effects)
        effects.append(Refreshed(node.name))


def _standings(
    node: Node, before: Mapping[ResourceKey, Ruled], firing: Mapping[ResourceKey, Sequence[Firing]]
) -> dict[str, list[Standing]]:
    silent = [key for key in before if key not in node.resources and not node.gone(key)]
    found: dict[str, list[Standing]] = {}
    for key in sorted({*node.resources, *silent, *(key for key in firing if key not in node.resources)}):
        facts: Mapping[str, Value] = node.resources.get(key, {})
        standing = Standing(kind=key[0], name=key[1], facts=facts, firing=firing.get(key, ()))
        found.setdefault(key[0], []).append(standing)
    return found


def _below(standing: Standing, standings: Mapping[str, Sequence[Standing]]) -> Iterable[ResourceKey]:
    """What a resource rests on, by name."""
    facts = standing.facts
    match standing.kind:
        case "volume":
            return [("device", name) for name in devices_of(facts)]
        case "state_path":
            return [("volume", str(facts["mountpoint"]))] if "mountpoint" in facts else []
        case "service":
            return [
                ("state_path", path.name)
                for path in standings.get("state_path", ())
                if path.facts.get("service") == standing.name
            ]
        case "node":
            return [("service", service.name) for service in standings.get("service", ())]
        case _:
            return []


def _turned(
    node: str, before: Mapping[ResourceKey, Ruled], after: Mapping[ResourceKey, Ruled], at: float
) -> Iterable[Turned]:
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key), after.get(key)
        if was is not None and now is not None and was.ruling.verdict is now.ruling.verdict:
            continue
        cause: Reason | None = now.ruling.cause if now else None
        yield Turned(
            node=node,
            kind=key[0],
            resource=key[1],
            at=at,
            before=was.ruling.verdict if was else None,
            after=now.ruling.verdict if now else None,
            reason=cause.text if cause else "",
        )
