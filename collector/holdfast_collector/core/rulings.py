"""The verdict on every resource, renewed when something it depends on changed.

The join is by name: a state path names its service and its mountpoint, a volume its devices. What was known and is
heard of no more, without being known to be gone, is `unknown` and not forgotten: a disk that fell silent must not
vanish from the list of what must be durable.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from holdfast_collector.core.causality import counts, devices_of
from holdfast_collector.core.effect import Commit, Effect, Refreshed, Transitioned, Turned
from holdfast_collector.core.groups import Groups
from holdfast_collector.core.judge import Court
from holdfast_collector.core.node import Node, ResourceKey
from holdfast_collector.core.recollection import Recollection, known_again, meanwhile, recalled, unseen
from holdfast_collector.core.record import HeldVerdict
from holdfast_collector.core.ruled import Ruled, anew, kept, turned
from holdfast_rules import Transition
from holdfast_rules.verdict import CHECK_AGES, Firing, Ruling, Standing, Verdict, own_integrity, rule
from holdfast_wire.message import Value

RELEVANT = frozenset(
    {
        "confidence", "device", "durability_class", "durability_class_reason", "durability_tested", "leaf_devices",
        "mountpoint", "pool_data_errors", "reporting", "required_class", "role", "scrub_uncorrectable_errors", "service",
        "stateful", "witness_corrupt", "witness_loss", "witness_lost", "writable",
    }
)  # fmt: skip
"""The facts that verdicts are made of, besides alerts: between two reports none of them moves."""
_AGES = frozenset(CHECK_AGES)
"""These move with each report, and matter when they pass a limit."""
_FIRING_TURNS = {Transition.FIRED, Transition.RESOLVED}
_ORDER = ("device", "volume", "state_path", "service", "node")
"""What rests on nothing first."""


class Renewed(Struct, frozen=True, kw_only=True):
    """What became of a node's verdicts."""

    turned: list[Turned]
    shown: list[ResourceKey]
    """Whose verdict reads otherwise now: those that turned, and those whose evidence came back after a restart."""
    commit: dict[tuple[str, str, str], HeldVerdict | None]
    """What to keep for the next start."""


class Rulings:
    """All verdicts of one collector."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[ResourceKey, Ruled]] = {}
        self._recollection = Recollection()
        self.groups = Groups()
        self.due: set[str] = set()
        """Nodes whose verdicts may have changed with the event in hand."""

    def restore(self, verdicts: Sequence[HeldVerdict], nodes: Mapping[str, Node]) -> None:
        """Take in what stood when the collector was last on, as not known any more and not yet again."""
        known = [held for held in verdicts if held.node in nodes]
        self._recollection.restore(known)
        for held in known:
            place = (held.kind, held.resource)
            self._nodes.setdefault(held.node, {})[place] = Ruled(ruling=unseen(held), since=held.since)
        for name in self._recollection.nodes:
            nodes[name].verdicts = {key: ruled.ruling.verdict for key, ruled in self._nodes[name].items()}
        self.due.update(self._recollection.nodes)
        self.groups.restore(verdicts)

    def of(self, node: str) -> Mapping[ResourceKey, Ruled]:
        """The verdicts on a node's resources, by kind and name."""
        return self._nodes.get(node, {})

    def of_service(self, node: str, service: str) -> Ruling | None:
        """The verdict on one service; None when there is none."""
        ruled = self.of(node).get(("service", service))
        return ruled.ruling if ruled is not None else None

    @property
    def awaited(self) -> list[str]:
        """Nodes with verdicts of before the start whose evidence is not back."""
        return self._recollection.nodes

    def renew(
        self, node: Node, firing: Mapping[ResourceKey, Sequence[Firing]], at: float, *, watched: bool
    ) -> Renewed:
        """Judge the node anew, from the devices up. `firing`: the alerts that fire, by resource.

        `watched`: the collector has listened for long enough that what was not heard is not known.
        """
        shown = self._nodes.get(node.name, {})
        before = dict(shown)
        after: dict[ResourceKey, Ruled] = {}
        awaited = self._recollection.of(node.name)
        settled: set[ResourceKey] = set()
        standings = _standings(node, before, firing)
        for kind in _ORDER:
            for standing in standings.get(kind, ()):
                key = (kind, standing.name)
                below = [after[place].ruling for place in _below(standing, standings) if place in after]
                ruling = rule(standing, below, before[key].ruling if key in before else None)
                held = awaited.get(key)
                if held is not None and known_again(node, held, ruling, watched=watched):
                    settled.add(key)
                    before[key] = Ruled(ruling=recalled(held), since=held.since)
                elif held is not None:
                    after[key] = before[key] = Ruled(ruling=meanwhile(held, ruling), since=held.since)
                    continue
                if ruling is not None:
                    after[key] = anew(before.get(key), ruling, at)
        gone = {key: held for key, held in awaited.items() if key not in after and key not in settled}
        before.update({key: Ruled(ruling=recalled(held), since=held.since) for key, held in gone.items()})
        if settled or gone:
            self._recollection.settle(node.name, settled | gone.keys())
        self._nodes[node.name] = after
        turns = dict(turned(node.name, before, after, at))
        return Renewed(
            turned=list(turns.values()),
            shown=[
                key
                for key in sorted(shown.keys() | after.keys())
                if _verdict(shown, key) is not _verdict(after, key)
            ],
            commit={(node.name, *key): kept(node.name, after.get(key)) for key in turns},
        )

    def note(self, node: Node, changed: Mapping[ResourceKey, frozenset[str]]) -> None:
        """Facts changed. The node is due when one of them is what verdicts are made of."""
        if self._recollection.of(node.name) or any(
            not RELEVANT.isdisjoint(names)
            or key not in node.resources
            or (not _AGES.isdisjoint(names) and self._check_turned(node, key))
            for key, names in changed.items()
        ):
            self.due.add(node.name)

    def _check_turned(self, node: Node, key: ResourceKey) -> bool:
        """Whether a resource was checked since it was judged, or the check it was judged by is too old by now."""
        ruled = self.of(node.name).get(key)
        checked = own_integrity(node.resources[key]) == "checked"
        return ruled is not None and checked != (ruled.ruling.integrity == "checked")

    def forget(self, node: str) -> None:
        """The node was taken out of service."""
        self._nodes.pop(node, None)
        self._recollection.forget(node)
        self.due.add(node)


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
    if warm:
        rulings.due.update(rulings.awaited)
    judged = frozenset(rulings.due)
    while rulings.due:
        node = nodes.get(rulings.due.pop())
        if node is None:
            continue
        renewed = rulings.renew(node, court.firing_on(node.name), at, watched=warm)
        if renewed.turned:
            commit.turns.extend(renewed.turned)
            commit.verdicts.update(renewed.commit)
            effects.extend(renewed.turned)
        if not renewed.shown:
            continue
        # A verdict is a fact of its resource, which rules may ask for; no such rule has a say in verdicts.
        node.verdicts = {key: ruled.ruling.verdict for key, ruled in rulings.of(node.name).items()}
        changed = node.rebuild(renewed.shown)
        court.judge(node, changed, at, warm=warm, commit=commit, effects=effects)
        effects.append(Refreshed(node.name))
    rulings.groups.renew(
        judged, rulings.awaited, rulings.of_service, at, watched=warm, commit=commit, effects=effects
    )


def _standings(
    node: Node, before: Mapping[ResourceKey, Ruled], firing: Mapping[ResourceKey, Sequence[Firing]]
) -> dict[str, list[Standing]]:
    silent = [key for key in before if key not in node.resources and not node.gone(key)]
    required = _required(node)
    found: dict[str, list[Standing]] = {}
    for key in sorted({*node.resources, *silent, *(key for key in firing if key not in node.resources)}):
        facts: Mapping[str, Value] = node.resources.get(key, {})
        standing = Standing(
            kind=key[0],
            name=key[1],
            facts=facts,
            firing=firing.get(key, ()),
            required_class=required.get(key[1]) if key[0] == "volume" else None,
        )
        found.setdefault(key[0], []).append(standing)
    return found


def _required(node: Node) -> dict[str, int]:
    """Volume → the greatest class that state on it needs."""
    found: dict[str, int] = {}
    for (kind, _), facts in node.resources.items():
        needed, place = facts.get("required_class"), str(facts.get("mountpoint", ""))
        if kind == "state_path" and isinstance(needed, int) and place and counts(facts):
            found[place] = max(needed, found.get(place, 0))
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


def _verdict(rulings: Mapping[ResourceKey, Ruled], key: ResourceKey) -> Verdict | None:
    return rulings[key].ruling.verdict if key in rulings else None
