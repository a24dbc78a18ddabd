"""What the core wants done. The shell commits first, then acknowledges, publishes and notifies.

There is one `Commit` and not a `Persist` and a `Notify`: a crash between two such effects leaves an alert firing that
nobody was told about. For the same reason acknowledgements leave only after the commit that earned them.
"""

from typing import Self

from msgspec import Struct, field

from holdfast_collector.core.chain import ChainRecord
from holdfast_collector.core.record import (
    EventCount,
    EventRow,
    HeldVerdict,
    NodeRecord,
    Notice,
    Resolved,
    RestoreWindow,
    Seen,
    Tracked,
)
from holdfast_rules import Transition
from holdfast_rules.verdict import Verdict
from holdfast_wire import DownMessage


class Turned(Struct, frozen=True, kw_only=True):
    """A verdict that changed: a line of a node's history, and what the shell streams to people who watch."""

    node: str
    kind: str
    resource: str
    at: float
    before: Verdict | None
    """None: there was none."""
    after: Verdict | None
    """None: the resource is gone, or there is nothing to judge any more."""
    reason: str = ""


class Commit(Struct, kw_only=True):
    """Everything one transaction must make durable. Rows replace older rows of the same key."""

    nodes: dict[str, NodeRecord | None] = field(default_factory=dict)
    """By node name. None: forget the node, what was seen of it, its events, counts, chains, window and verdicts;
    the outbox stays."""
    alerts: dict[str, Tracked | None] = field(default_factory=dict)
    """By alert key. None: the alert has left."""
    resolved: list[Resolved] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    """New outbox rows, in order."""
    taken: list[str] = field(default_factory=list)
    """Ids of notices that left the outbox."""
    seen: list[Seen] = field(default_factory=list)
    forgotten: list[tuple[str, str, int, int]] = field(default_factory=list)
    """(node, install_id, epoch, seq) of `seen` rows that are needed no more."""
    events: list[EventRow] = field(default_factory=list)
    counts: dict[tuple[str, str, str, str], EventCount] = field(default_factory=dict)
    """By (node, resource kind, resource, event type)."""
    chains: dict[tuple[str, str], ChainRecord | None] = field(default_factory=dict)
    """By (node, chain_id). None: the chain is settled, and long over."""
    windows: dict[str, RestoreWindow | None] = field(default_factory=dict)
    """By node. None: the announced restore is over."""
    turns: list[Turned] = field(default_factory=list)
    """Verdicts that changed, in order: nothing of a node's history is known but to those who hold its cause."""
    verdicts: dict[tuple[str, str, str], HeldVerdict | None] = field(default_factory=dict)
    """By (node, kind, resource). None: it is judged no more."""
    next_episode: int = 0
    """0: unchanged."""

    @property
    def empty(self) -> bool:
        """Nothing to write: the transaction can be skipped."""
        return not (
            self.nodes
            or self.alerts
            or self.resolved
            or self.notices
            or self.taken
            or self.seen
            or self.forgotten
            or self.events
            or self.counts
            or self.chains
            or self.windows
            or self.turns
            or self.verdicts
            or self.next_episode
        )

    def merge(self, later: Self) -> None:
        """Take in what a later event of the same batch wants committed."""
        self.nodes.update(later.nodes)
        self.alerts.update(later.alerts)
        self.resolved.extend(later.resolved)
        self.notices.extend(later.notices)
        self.taken.extend(later.taken)
        self.seen.extend(later.seen)
        self.forgotten.extend(later.forgotten)
        self.events.extend(later.events)
        self.counts.update(later.counts)
        self.chains.update(later.chains)
        self.windows.update(later.windows)
        self.turns.extend(later.turns)
        self.verdicts.update(later.verdicts)
        self.next_episode = later.next_episode or self.next_episode


class Publish(Struct, frozen=True):
    """A message for a node, to leave only after the commits of the same `handle` call are durable."""

    node: str
    message: DownMessage


class Rejected(Struct, frozen=True):
    """Bytes that were not taken. The shell counts the reason and keeps a sample."""

    node: str
    reason: str
    """A metric label: `RefusalReason` values, `late`, `duplicate`, `replayed`, `early`, `second_claimant`,
    `over_capacity`."""
    detail: str
    payload: bytes


class Refreshed(Struct, frozen=True):
    """A node's facts changed: its series and its page are to be rewritten."""

    node: str


class Forgot(Struct, frozen=True):
    """A node is gone, and its series with it."""

    node: str


class Transitioned(Struct, frozen=True):
    """An alert changed state: what the shell logs and streams to people who watch."""

    tracked: Tracked
    transition: Transition


class Noted(Struct, frozen=True):
    """Something an operator may want to find in the log: a node born, lost, stopped, claimed twice."""

    node: str
    event: str
    """Lower-case past fact, stable."""
    detail: str = ""


Effect = Commit | Publish | Rejected | Refreshed | Forgot | Transitioned | Turned | Noted
