"""What the collector remembers across a restart. The store keeps these as they are; only the core gives them meaning."""

from msgspec import Struct, field

from holdfast_collector.core.chain import ChainRecord
from holdfast_collector.core.reboot_fate import Fate, Passage
from holdfast_rules import Alert
from holdfast_rules.verdict import Verdict
from holdfast_wire import Birth, Machine, Position
from holdfast_wire.message import Value


class Receiver(Struct, frozen=True, kw_only=True):
    """Where notices go, as far as the core must know."""

    name: str
    severities: tuple[str, ...] = ("page", "ticket", "info")
    """The severities it takes."""
    takes_resolved: bool = True


class NodeRecord(Struct, frozen=True, kw_only=True):
    """A node's identity and its place in the order of messages."""

    node: str
    install_id: str
    boot_id: str
    position: Position
    """Of the newest live message. Older reports are late, whatever they say."""
    connection: int = 0
    session: str = "connected"
    """`connected`, `lost` (a will came) or `stopped` (the agent said goodbye)."""
    session_since: float = 0.0
    interval_seconds: float = 10.0
    floor: Position = Position(0, 0)
    """Durable messages before it will never come again; the memory of them is pruned."""
    first_seen_at: float = 0.0
    last_report_at: float = 0.0
    """As of the last commit of this record; a heartbeat that changes nothing is not written."""
    boots: tuple[str, ...] = ()
    """Boot ids in the order they were met, the newest last."""
    birth: Birth | None = None
    machine: Machine = Machine()
    """What the machine said it is, as far as it ever said."""
    identity_change: str = ""
    """How it became another one, in words, until an operator takes note."""
    passage: Passage | None = None
    """A boot whose outcome is not told yet."""
    fate: Fate | None = None
    """What the newest boot was, once that is told."""


class RestoreWindow(Struct, frozen=True, kw_only=True):
    """An announced restore of a node: what it loses meanwhile is on record, and nobody is called."""

    node: str
    since: float
    until: float
    reason: str


class Seen(Struct, frozen=True):
    """A durable message whose effect is committed. Identity includes the digest: a twin is not a duplicate."""

    node: str
    install_id: str
    epoch: int
    seq: int
    digest: str
    at: float
    """When its effect was committed."""


class EventRow(Struct, frozen=True, kw_only=True):
    """An event that happened on a node."""

    node: str
    install_id: str
    epoch: int
    seq: int
    received_at: float
    at: float
    """The agent's wall clock."""
    type: str
    resource_kind: str
    resource: str
    summary: str
    fields: dict[str, Value] = field(default_factory=dict)


class EventCount(Struct, frozen=True, kw_only=True):
    """How often events of one type happened to one resource."""

    node: str
    resource_kind: str
    resource: str
    type: str
    total: int
    last_at: float
    last: str
    """The newest one's summary."""


class HeldVerdict(Struct, frozen=True, kw_only=True):
    """The verdict that stands on a resource."""

    node: str
    kind: str
    resource: str
    verdict: Verdict
    since: float
    """Collector's clock."""
    last: Verdict | None = None
    """What it was when evidence was last complete, where it is unknown and was worse."""


class Tracked(Struct, frozen=True, kw_only=True):
    """An alert and what was done about it."""

    key: str
    alert: Alert
    notified: bool = False
    """Notices of its firing were put into the outbox."""
    inhibited_by: str = ""
    """The alert that explains this one, while it keeps it quiet."""
    explained_by: str = ""
    """Its key."""


class Resolved(Struct, frozen=True, kw_only=True):
    """An alert whose episode ended. Kept a while: Alertmanager must hear of it more than once, people look back."""

    key: str
    alert: Alert
    at: float
    notified: bool


class Notice(Struct, frozen=True, kw_only=True):
    """One thing to tell one receiver, until it has taken it."""

    id: str
    """`<alert key>:<status>:<receiver>`: stable, receivers deduplicate by it."""
    key: str
    receiver: str
    status: str
    """`firing` or `resolved`."""
    created_at: float
    alert: Alert
    resolved_at: float = 0.0


class State(Struct, kw_only=True):
    """All of it, as the store gives it back at start."""

    nodes: list[NodeRecord] = field(default_factory=list)
    alerts: list[Tracked] = field(default_factory=list)
    resolved: list[Resolved] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    """Undelivered, oldest first."""
    seen: list[Seen] = field(default_factory=list)
    counts: list[EventCount] = field(default_factory=list)
    recent: list[EventRow] = field(default_factory=list)
    """Events young enough to matter to a rule's window, oldest first."""
    chains: list[ChainRecord] = field(default_factory=list)
    windows: list[RestoreWindow] = field(default_factory=list)
    verdicts: list[HeldVerdict] = field(default_factory=list)
    next_episode: int = 1
