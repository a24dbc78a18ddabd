"""What a verdict rests on, gathered when somebody asks: facts with their values, who states them, since when and until when
that counts, or why nobody does; and what the volumes below have been through."""

from collections.abc import Iterator

from msgspec import Struct

from holdfast_collector.core.collector import Collector
from holdfast_collector.core.node import Node, ResourceKey, ResourceSubject
from holdfast_collector.core.survival import EventClass, last_survived
from holdfast_collector.core.witness_facts import volumes_of
from holdfast_rules import Subject
from holdfast_rules.explain import Part, Whence, explain
from holdfast_rules.verdict import HEEDED_FACTS, JUDGED_FACTS, Reason, Ruling
from holdfast_wire import fact
from holdfast_wire.message import Value

EVIDENCE_MAX = 40
"""Facts that are listed of one verdict: its own, then those of its reasons, the worst first."""
_REASONS_MAX = 10


class Evidence(Struct, frozen=True, kw_only=True):
    """One fact that a verdict rests on, or should."""

    kind: str
    resource: str
    fact: str
    value: Value | None
    """Null: not known."""
    unit: str
    probe: str
    """Who states it; `collector` for what the collector knows by itself, empty when nobody does."""
    observed_at: float | None
    fresh_until: float | None
    """When it stops being evidence, unless it is told again; null where nobody has to."""
    problem: str
    """Why it is not known and what it takes, as far as anybody can tell; empty when it is."""


class Sources:
    """Where the facts of a node come from."""

    def __init__(self, node: Node, at: float) -> None:
        self._node = node
        self._at = at

    def __call__(self, subject: Subject, kind: str, name: str) -> Whence:
        """Of a fact `name` of the subject, or of the resource of that kind that it rests on."""
        resource = subject.name
        if kind != subject.kind:
            facts = subject.related(kind)
            rests_on = [key[1] for key, known in self._node.resources.items() if known is facts]
            if not rests_on:
                return Whence(problem=f"no {kind} is known that it rests on")
            resource = rests_on[0]
        return self.of((kind, resource), name)

    def of(self, key: ResourceKey, name: str) -> Whence:
        """Of a fact of one resource."""
        for held in self._node.sections.values():
            if name in held.stated.get(key, {}):
                problem = "stale: nothing newer came for three periods" if held.stale else ""
                age = max(0.0, self._at - held.observed_at)
                return Whence(resource=key[1], probe=held.section.probe, age_seconds=age, problem=problem)
        if name in self._node.resources.get(key, {}):
            return Whence(resource=key[1], probe="collector", age_seconds=0.0)
        return Whence(resource=key[1], problem=self._missing(key, name))

    def _missing(self, key: ResourceKey, name: str) -> str:
        """What the probes that could state it say: the one that gives a reason for it, or names it, else its resource's
        own, else any that is blind."""
        sections = self._node.sections.values()
        for held in sections:
            reason = held.stated.get(key, {}).get(f"{name}_reason")
            if reason and not held.stale:
                return f"{held.section.probe}: {reason}"
        named = [
            f"{held.section.probe}: {why}"
            for held in sections
            if (why := held.section.missing.get(name) or held.section.missing.get(key[1]))
        ]
        owners = self._node.owners.get(key, ())
        failing = [held for held in sections if not held.complete]
        own = [held for held in failing if held.section.probe in owners]
        blind = own or [held for held in failing if not held.stated]
        said = [
            f"{held.section.probe} {held.section.status.value}: {held.section.detail}".rstrip(": ")
            for held in blind
        ]
        return "; ".join(named or said) or "no probe states it"


class Grounds:
    """Of all verdicts of one node at one moment."""

    def __init__(self, collector: Collector, node: Node, at: float) -> None:
        self._node = node
        self._at = at
        self._rules = collector.rules.of_node(node.name).by_name
        self._sources = Sources(node, at)
        self._of_reasons: dict[tuple[str, str, str], list[Evidence]] = {}
        self._survived: dict[str, dict[str, float]] = {}
        for volume, records in volumes_of(node.chains).items():
            self._survived[volume] = last_survived(record for record in records if record.volume == volume)
        self._paths: dict[str, list[str]] = {}
        """Service → the volumes that its state lies on."""
        for kind, name in collector.rulings.of(node.name):
            facts = node.resources.get((kind, name), {})
            if kind == "state_path":
                volumes = self._paths.setdefault(str(facts.get("service", "")), [])
                volumes.append(str(facts.get("mountpoint", "")))

    def tested(self, ruling: Ruling) -> dict[str, float]:
        """Class of event (`survival.EventClass`) → when all volumes below had last come whole through one."""
        volumes = [self._survived.get(volume, {}) for volume in self._volumes(ruling)]
        events = set.intersection(*(set(survived) for survived in volumes)) if volumes else set()
        return {
            event.value: min(survived[event] for survived in volumes)
            for event in EventClass
            if event in events
        }

    def _volumes(self, ruling: Ruling) -> list[str]:
        match ruling.kind:
            case "volume":
                return [ruling.resource]
            case "state_path":
                facts = self._node.resources.get((ruling.kind, ruling.resource), {})
                return [str(facts.get("mountpoint", ""))]
            case "service":
                return self._paths.get(ruling.resource, [])
            case "node":
                return [volume for volumes in self._paths.values() for volume in volumes]
            case _:
                return []

    def evidence(self, ruling: Ruling) -> list[Evidence]:
        """What the verdict on one resource rests on: its own facts, then what its reasons say, each fact once."""
        found: dict[tuple[str, str, str], Evidence] = {}
        for evidence in self._all(ruling):
            found.setdefault((evidence.kind, evidence.resource, evidence.fact), evidence)
            if len(found) == EVIDENCE_MAX:
                break
        return list(found.values())

    def _all(self, ruling: Ruling) -> Iterator[Evidence]:
        yield from self._own(ruling.kind, ruling.resource)
        for reason in ruling.reasons[:_REASONS_MAX]:
            yield from self._of_reason(reason)

    def _of_reason(self, reason: Reason) -> list[Evidence]:
        place = (reason.kind, reason.resource, reason.alert)
        if place not in self._of_reasons:
            rule = self._rules.get(reason.alert)
            if rule is None:
                found = list(self._own(reason.kind, reason.resource))
            else:
                subject = ResourceSubject(self._node, (reason.kind, reason.resource))
                tree = explain(rule.expression.tree, rule.when, subject, self._at, self._sources)
                found = [self._leaf(part) for part in _leaves(tree)]
            self._of_reasons[place] = found
        return self._of_reasons[place]

    def _own(self, kind: str, resource: str) -> Iterator[Evidence]:
        """The facts that verdicts on such resources are made of."""
        facts = self._node.resources.get((kind, resource), {})
        heeded = [name for name in HEEDED_FACTS.get(kind, ()) if name in facts]
        for name in (*JUDGED_FACTS.get(kind, ()), *heeded):
            declared = fact.FACTS_OF[fact.ResourceKind(kind)][name]
            yield self._evidence(
                kind, name, facts.get(name), declared.unit, self._sources.of((kind, resource), name)
            )

    def _leaf(self, part: Part) -> Evidence:
        assert part.whence is not None, "a leaf has a source"
        return self._evidence(part.kind, part.fact, part.value, part.unit, part.whence)

    def _evidence(self, kind: str, name: str, value: Value | None, unit: str, whence: Whence) -> Evidence:
        held = self._node.sections.get(whence.probe)
        return Evidence(
            kind=kind,
            resource=whence.resource,
            fact=name,
            value=value,
            unit=unit,
            probe=whence.probe,
            observed_at=None if whence.age_seconds is None else self._at - whence.age_seconds,
            fresh_until=None if held is None else held.stale_at,
            problem=whence.problem,
        )


def _leaves(part: Part) -> Iterator[Part]:
    """The facts of a condition, in the order they are written."""
    if part.whence is not None:
        yield part
    for below in part.parts:
        yield from _leaves(below)
