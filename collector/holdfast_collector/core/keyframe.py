"""All that is known of a node at one moment, as far as what follows builds on it: where a replay can begin.

Reports carry what changed. Who reads them from the middle on needs what was held there; a keyframe is that.
"""

from copy import copy

from msgspec import Struct

from holdfast_collector.core.chain import ChainRecord
from holdfast_collector.core.collector import Collector
from holdfast_collector.core.effect import Commit, Effect
from holdfast_collector.core.fold import Folded
from holdfast_collector.core.lives import Life
from holdfast_collector.core.node import Node, ResourceKey
from holdfast_collector.core.record import EventCount, NodeRecord, RestoreWindow
from holdfast_collector.core.rulings import rule_anew
from holdfast_wire import Position, Section
from holdfast_wire.message import SpoolState

KEYFRAME_SECONDS = 3600.0
"""Every node's comes this often: a replay can begin this long after any moment."""


class KeptSection(Struct, frozen=True, array_like=True):
    """A `HeldSection`."""

    section: Section
    digest: str
    observed_at: float
    duration_seconds: float
    stale: bool


class Keyframe(Struct, frozen=True, kw_only=True):
    """A node as it was."""

    record: NodeRecord
    position: Position
    last_report_at: float
    reporting: bool | None
    spool: SpoolState | None
    sections: list[KeptSection]
    unheld: list[str]
    counts: list[EventCount]
    chains: list[ChainRecord]
    window: RestoreWindow | None
    lives: list[Life]
    claimants: dict[str, float]


def keyframe(node: Node) -> Keyframe:
    """The node as it is."""
    return Keyframe(
        record=node.record,
        position=node.position,
        last_report_at=node.last_report_at,
        reporting=node.reporting,
        spool=node.spool,
        sections=[
            KeptSection(held.section, held.digest, held.observed_at, held.duration_seconds, held.stale)
            for held in node.sections.values()
        ],
        unheld=sorted(node.unheld),
        counts=[count for counts in node.counts.values() for count in counts.values()],
        chains=list(node.chains.values()),
        window=node.window,
        lives=[copy(life) for life in node.lives.values()],
        claimants=dict(node.claimants),
    )


class ReplayedCollector(Collector):
    """The collector over recorded events: nodes enter it as they were, in the middle of their lives."""

    def adopt(self, known: Keyframe, at: float) -> list[Effect]:
        """Take a node in as it was. One that is known already goes on as it is, and learns what it lacks."""
        name = known.record.node
        node = self.nodes.get(name)
        touched = self._enter(known, at) if node is None else set[ResourceKey]()
        node = self.nodes[name]
        for kept in known.sections:
            if kept.section.probe in node.sections:
                continue
            touched |= node.hold(kept.section, kept.digest, kept.observed_at)
            held = node.sections[kept.section.probe]
            held.duration_seconds, held.stale = kept.duration_seconds, kept.stale
        node.unheld -= node.sections.keys()
        if not touched:
            return []
        commit, effects = Commit(), list[Effect]()
        self._settle(node, Folded(touched, set(), [], []), at, commit, effects)
        rule_anew(self.rulings, self._court, self.nodes, at, at >= self.warm_at, commit, effects)
        for notice in commit.notices:
            self.outbox[notice.id] = notice
        return [commit, *effects]

    def _enter(self, known: Keyframe, at: float) -> set[ResourceKey]:
        name = known.record.node
        node = self.nodes[name] = Node(known.record, at)
        node.position, node.last_report_at = known.position, known.last_report_at
        node.reporting, node.spool = known.reporting, known.spool
        node.unheld, node.window = frozenset(known.unheld), known.window
        for count in known.counts:
            node.counts.setdefault((count.resource_kind, count.resource), {})[count.type] = count
        node.chains = {record.chain_id: record for record in known.chains}
        node.lives = {(life.install_id, life.boot_id): copy(life) for life in known.lives}
        node.claimants = dict(known.claimants)
        self._kept.add(name)
        found = {("node", name), *node.counts}
        return found | self._testimony.take_up(node, at) | self._standing.take_up(node, at)

    def started_anew(self, at: float) -> None:
        """The recorded collector began to listen: as after any start it must watch before it calls anybody silent."""
        self.started_at = at
