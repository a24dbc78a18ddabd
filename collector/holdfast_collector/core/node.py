"""One node as the collector knows it: identity, sections, and the resources they add up to."""

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from holdfast_collector.core.affected import Affected
from holdfast_collector.core.chain import ChainRecord
from holdfast_collector.core.fsync_times import FsyncTimes
from holdfast_collector.core.lives import Lives
from holdfast_collector.core.record import EventCount, NodeRecord, RestoreWindow
from holdfast_rules import Others, Series
from holdfast_wire import Section, SectionStatus, fact
from holdfast_wire.declaration import ON_NO_NODE
from holdfast_wire.message import SpoolState, Value
from holdfast_wire.relation import LACKING, REFERENCES
from holdfast_wire.vocabulary.probe import EXTRA_RIGHT_PROBES

ResourceKey = tuple[str, str]
"""(kind, name)"""

_AGENT_FACTS: dict[str, frozenset[str]] = {
    kind: frozenset(name for name, declared in facts.items() if declared.origin is fact.Origin.AGENT)
    for kind, facts in fact.FACTS_OF.items()
    if kind not in {fact.ResourceKind.PROBE, *ON_NO_NODE}
}
"""What an agent may state. The rest is the collector's to say: an agent cannot call itself reporting."""

_EVENTLESS: dict[str, dict[str, Value]] = {
    kind.value: {f"{type_.name}_total": 0 for type_ in fact.EVENT_TYPES.values() if type_.resource is kind}
    for kind in fact.ResourceKind
}
"""A known resource to which nothing happened has counted none, which is knowledge, not ignorance."""


_NOTHING: dict[str, Value] = {}
_NO_REFERENCE: dict[str, str] = {}


class HeldSection(Struct):
    """A probe's newest section, and when by the collector's clock it was last known to be true."""

    section: Section
    digest: str
    observed_at: float
    """The collector's receive time less the age the agent gave: no VM's wall clock is involved."""
    duration_seconds: float
    stale: bool = False
    """Nothing newer came within three periods: its facts are no longer evidence."""
    stated: dict[ResourceKey, dict[str, Value]] = {}
    """The section's resources as the collector takes them."""

    @property
    def stale_at(self) -> float:
        """When the section stops being evidence: three periods, and some room for a loaded network."""
        return self.observed_at + 3 * self.section.period_seconds + 5.0

    @property
    def complete(self) -> bool:
        """Whether what the section does not list is not there."""
        return not self.stale and self.section.status in {SectionStatus.OK, SectionStatus.NO_DATA}


class Node:
    """A node, changed in place by the core only. Everybody else reads."""

    def __init__(self, record: NodeRecord, known_since: float) -> None:
        self.record = record
        self.known_since = known_since
        """When this run of the collector first knew it."""
        self.sections: dict[str, HeldSection] = {}
        self.unheld: frozenset[str] = frozenset()
        """Probes of which the agent says that it has a section, and the collector holds none."""
        self.unheld_before: frozenset[str] | None = None
        """The same, when rules last asked."""
        self.wholes: dict[str, bool] = {}
        """Kind → whether all its resources were known when rules last asked."""
        self.asked: dict[str, float] = {}
        """Probes whose section the collector asked for → when it asked."""
        self.spool: SpoolState | None = None
        self.position = record.position
        """Of the newest live message. The record's own is as old as its last commit."""
        self.last_report_at = record.last_report_at
        self.reporting: bool | None = None
        """None until the collector has watched it for a full grace period."""
        self.claimants: dict[str, float] = {}
        """Other install ids that speak under this name → when last."""
        self.lives: Lives = {}
        """The boots that were heard since the collector started."""
        self.fsyncs: dict[str, FsyncTimes] = {}
        """By volume; from the witnesses that came since this run of the collector began."""
        self.chains: dict[str, ChainRecord] = {}
        """By chain_id, closed ones included."""
        self.window: RestoreWindow | None = None
        """The newest announced restore, over or not."""
        self.testified: dict[ResourceKey, dict[str, Value]] = {}
        """What chains and identity add to the facts of resources, those included that the agent no longer lists."""
        self.testified_at: dict[ResourceKey, float] = {}
        self.counts: dict[ResourceKey, dict[str, EventCount]] = {}
        self.resources: dict[ResourceKey, dict[str, Value]] = {}
        """All fresh facts by resource, the collector's own and those counted from events included. Stale ones are
        absent."""
        self.observed: dict[ResourceKey, float] = {}
        """When a resource's facts were last observed, collector's clock."""
        self.histories: dict[tuple[str, str, str], Series] = {}
        """(kind, name, fact) → samples, for the facts that rules look back on."""
        self._sample_due: dict[ResourceKey, float] = {}
        """When the next of those is to be taken that need not be taken each time. None where a fact came or went."""
        self._sampled_for: Affected | None = None
        self.verdicts: Mapping[ResourceKey, str] = {}
        """What is said of its resources, see `rulings`: a fact of theirs that rules may ask for."""
        self.owners: dict[ResourceKey, set[str]] = {}
        """The probes that have stated a resource: the complete silence of all of them means that it is gone."""

    @property
    def name(self) -> str:
        return self.record.node

    @property
    def grace_seconds(self) -> float:
        """How long a node may be quiet before that means something: three intervals, and at least 15 s."""
        return max(3 * self.record.interval_seconds, 15.0)

    def hold(self, section: Section, digest: str, observed_at: float) -> set[ResourceKey]:
        """Take in a probe's section whole. Returns the resources it changes, those it no longer lists included."""
        before = self.sections.get(section.probe)
        said = before.stated if before and not before.stale else {}
        stated: dict[ResourceKey, dict[str, Value]] = {}
        for resource in section.resources:
            allowed = _AGENT_FACTS.get(resource.kind)
            if allowed is None:
                continue
            name = self.name if resource.kind == "node" else resource.name
            facts = resource.facts
            if not facts.keys() <= allowed:
                facts = {key: value for key, value in facts.items() if key in allowed}
            stated[(resource.kind, name)] = facts
            self.owners.setdefault((resource.kind, name), set()).add(section.probe)
        self.sections[section.probe] = HeldSection(
            section, digest, observed_at, section.duration_seconds, stated=stated
        )
        self.asked.pop(section.probe, None)
        changed = {key for key, facts in stated.items() if said.get(key) != facts}
        if before is not None:
            changed.update(key for key in before.stated if key not in stated)
        changed.add(("probe", section.probe))
        return changed

    def drop(self, probe: str) -> set[ResourceKey]:
        """Forget a probe that the agent no longer has."""
        self.asked.pop(probe, None)
        return set(self.sections.pop(probe).stated) | {("probe", probe)}

    def rebuild(self, keys: Iterable[ResourceKey]) -> dict[ResourceKey, frozenset[str]]:
        """Add up the facts of these resources anew. Returns which facts are not what they were, where any are."""
        changed = {}
        for key in keys:
            facts = self._facts(key)
            before = self.resources.get(key, _NOTHING)
            if facts == before:
                continue
            changed[key] = _differing(before, facts)
            if before.keys() != facts.keys():
                self._sample_due.pop(key, None)
            if facts:
                self.resources[key] = facts
            else:
                del self.resources[key]
                self.observed.pop(key, None)
        return changed

    def _facts(self, key: ResourceKey) -> dict[str, Value]:
        kind, name = key
        if kind == "probe":
            return self._probe_facts(name)
        facts: dict[str, Value] = {}
        for held in self.sections.values():
            if not held.stale and key in held.stated:
                facts.update(held.stated[key])
                self.observed[key] = max(self.observed.get(key, 0.0), held.observed_at)
        testified = self.testified.get(key)
        if testified is not None:
            facts.update(testified)
            self.observed[key] = max(self.observed.get(key, 0.0), self.testified_at.get(key, 0.0))
        if kind == "node":
            facts.update(self._own_facts())
        if facts:
            facts = {**_EVENTLESS.get(kind, {}), **facts}
            if key in self.verdicts:
                facts["verdict"] = self.verdicts[key]
        for type_, count in self.counts.get(key, {}).items():
            facts[f"{type_}_total"] = count.total
            facts[f"{type_}_last"] = count.last
        return facts

    def _own_facts(self) -> dict[str, Value]:
        facts: dict[str, Value] = {"session": self.record.session}
        if self.reporting is not None:
            facts["reporting"] = self.reporting
        if self.spool is not None:
            facts["spool_messages"] = self.spool.messages
            facts["spool_dropped_total"] = self.spool.dropped_total
            facts["spool_in_memory"] = self.spool.in_memory
        return facts

    def _probe_facts(self, probe: str) -> dict[str, Value]:
        held = self.sections.get(probe)
        if held is None:
            return {}
        status = held.section.status
        self.observed[("probe", probe)] = held.observed_at
        return {
            "status": status.value,
            "detail": held.section.detail,
            "extra_right": probe in EXTRA_RIGHT_PROBES,
            "working": status in {SectionStatus.OK, SectionStatus.NO_DATA},
            "duration_seconds": held.duration_seconds,
            "stale": held.stale,
        }

    def resting_on(self, kind: str, key: ResourceKey) -> list[ResourceKey]:
        """The resources of `kind` that rest on the resource `key`: all of them, when it is the node itself."""
        naming = REFERENCES.get(kind, _NO_REFERENCE).get(key[0])
        return [
            place
            for place, facts in self.resources.items()
            if place[0] == kind and (naming is None or facts.get(naming) == key[1])
        ]

    def rests_on(self, key: ResourceKey) -> frozenset[str]:
        """`kind:name` of all that a resource rests on, and of what those rest on: its volume, that one's device, the node."""
        found = {f"node:{self.name}"}
        facts = self.resources.get(key, _NOTHING)
        lacking = [LACKING[key[0]]] if key[0] in LACKING else []
        for kind, fact_name in [*REFERENCES.get(key[0], _NO_REFERENCE).items(), *lacking]:
            name = facts.get(fact_name)
            if isinstance(name, str) and name:
                found |= {f"{kind}:{name}", *self.rests_on((kind, name))}
        return frozenset(found)

    def gone(self, key: ResourceKey) -> bool:
        """Whether a resource is known not to be there any more, which is not the same as not being heard of.

        The probes that stated it are complete and no longer list it: one that cannot look may be the one that would see
        it. Which they were is not kept over a restart of the collector; then those that list such resources now speak for
        it, once every section is in.
        """
        if any(not held.stale and key in held.stated for held in self.sections.values()):
            return False
        owners = self.owners.get(key)
        if owners:
            return all(owner in self.sections and self.sections[owner].complete for owner in owners)
        peers = [held for held in self.sections.values() if any(kind == key[0] for kind, _ in held.stated)]
        return bool(peers) and not self.asked and all(held.complete for held in peers)

    def whole(self, kind: str) -> bool:
        """Whether the resources of a kind that are known are all there are.

        Those who list such resources, or did, must be complete. Where nobody ever did, everybody must be: the one that
        would list them may be the one that may not look.
        """
        if self.unheld or not self.sections:
            return False
        if kind == "probe":
            return True
        owners = {probe for (owned, _), probes in self.owners.items() if owned == kind for probe in probes}
        speakers = [
            held
            for probe, held in self.sections.items()
            if probe in owners or any(stated == kind for stated, _ in held.stated)
        ]
        return all(held.complete for held in speakers or self.sections.values())

    def forget_histories(self, affected: Affected) -> None:
        """Let go of the history that no rule looks back on any more."""
        for place in [place for place in self.histories if place[2] not in affected.looked_back_on(place[0])]:
            del self.histories[place]

    def sample(self, keys: Iterable[ResourceKey], affected: Affected, at: float) -> None:
        """Remember the values that rules look back on."""
        if self._sampled_for is not affected:
            self._sampled_for = affected
            self._sample_due.clear()
        for key in keys:
            each_time, now_and_then = affected.sampled(key[0])
            if each_time:
                self._sample(key, each_time, at)
            if now_and_then and at >= self._sample_due.get(key, at):
                self._sample_due[key] = self._sample(key, now_and_then, at)

    def _sample(self, key: ResourceKey, wanted: Iterable[tuple[str, float, float]], at: float) -> float:
        """Take the samples that are due of one resource. Returns when the next one is."""
        facts = self.resources.get(key, _NOTHING)
        due = math.inf
        for name, seconds, spacing in wanted:
            value = facts.get(name)
            if value is None or isinstance(value, str):
                continue
            series = self.histories.get((*key, name))
            if series is None:
                series = self.histories[(*key, name)] = Series(seconds)
            series.widen(seconds)
            if at - series.newest_at >= spacing:
                series.append(at, float(value))
            due = min(due, series.newest_at + spacing)
        return due


CAME_OR_WENT = ""
"""Stands among the facts that changed when the resource itself was not there before, or is no longer."""


def _differing(before: Mapping[str, Value], after: Mapping[str, Value]) -> frozenset[str]:
    names = [name for name, value in after.items() if before.get(name) != value]
    if not before or not after:
        names.append(CAME_OR_WENT)
    if len(before) != len(after) or not before.keys() <= after.keys():
        names.extend(before.keys() - after.keys())
    return frozenset(names)


class ResourceSubject:
    """A resource as a rule sees it (`holdfast_rules.Subject`)."""

    __slots__ = ("_node", "facts", "key", "kind", "name", "node")

    def __init__(self, node: Node, key: ResourceKey) -> None:
        self._node = node
        self.key = key
        self.node = node.name
        self.kind, self.name = key
        self.facts: Mapping[str, Value] = node.resources.get(key, {})

    def related(self, kind: str) -> Mapping[str, Value] | None:
        """The facts of the one resource of another kind that this one rests on; None when none is known."""
        if kind == "node":
            return self._node.resources.get(("node", self.node))
        name = self.facts.get(REFERENCES.get(self.kind, _NO_REFERENCE).get(kind, ""))
        return self._node.resources.get((kind, name)) if isinstance(name, str) else None

    def others(self, kind: str, resting: bool) -> Others:
        """The resources of a kind on the node, or those that name this one as what they rest on."""
        found = [ResourceSubject(self._node, key) for key in self._node.resources if key[0] == kind]
        if resting and self.kind != "node":
            own = self._node.resources.get(self.key)
            found = [other for other in found if own is not None and other.related(self.kind) is own]
        return Others(found, self._node.whole(kind))

    def series(self, name: str) -> Sequence[tuple[float, float]]:
        """The samples of a fact, oldest first; empty when none were kept."""
        series = self._node.histories.get((self.kind, self.name, name))
        if series is not None:
            return series
        total = self.facts.get(name)
        if total is None or name not in _EVENTLESS[self.kind]:
            return ()
        count = self._node.counts.get(self.key, {}).get(name.removesuffix("_total"))
        if count is not None and count.last_at >= self._node.known_since:
            # No rule looked back on it when it came, but when the last one came is known, and that it was one.
            return ((count.last_at, float(count.total - 1)), (count.last_at, float(count.total)))
        return ((self._node.known_since, float(total)),)

    def observed_at(self, name: str) -> float | None:
        """When the fact was last observed, by the collector's clock."""
        return self._node.observed.get(self.key) if name in self.facts else None
