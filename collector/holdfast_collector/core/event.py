"""What can reach the core. Every event carries `at`, the collector's own clock in Unix seconds UTC.

The shell guarantees that `at` never runs backwards: it anchors the wall clock once and adds monotonic time.
"""

from msgspec import Struct

from holdfast_collector.core.groups import DeclaredGroup
from holdfast_collector.core.record import Receiver
from holdfast_rules import RuleSet


class Received(Struct, frozen=True):
    """Bytes arrived on a node's up topic."""

    at: float
    node: str
    """As named by the topic."""
    payload: bytes


class Ticked(Struct, frozen=True):
    """Time passed. The shell ticks about once a second; liveness, staleness and `for` need it."""

    at: float


class Delivered(Struct, frozen=True):
    """A receiver took a notice, or refused it for ever."""

    at: float
    notice_id: str
    refused: str = ""
    """Why the receiver will never take it (HTTP 400, …); empty when it took it."""


class BrokerChanged(Struct, frozen=True):
    """The ingest's session with the broker came up or went down."""

    at: float
    connected: bool


class Acknowledged(Struct, frozen=True):
    """An operator took note of an alert, which lets a sticky one leave."""

    at: float
    key: str
    """The alert's key, see `holdfast_rules.key`."""
    reason: str


class RulesReplaced(Struct, frozen=True):
    """A new, valid rule set is in force."""

    at: float
    rules: RuleSet


class ReceiversReplaced(Struct, frozen=True):
    """Other receivers are configured. A new one is told of what fires already."""

    at: float
    receivers: tuple[Receiver, ...]


class NodeForgotten(Struct, frozen=True):
    """An operator took a node out of service: its series, alerts and memory go."""

    at: float
    node: str


class RestoreAnnounced(Struct, frozen=True):
    """An operator is about to restore a node from a copy. A newer announcement replaces an older one."""

    at: float
    node: str
    until: float
    reason: str


class GroupsReplaced(Struct, frozen=True):
    """Other groups are declared; at a start, these are the first."""

    at: float
    groups: tuple[DeclaredGroup, ...]


CoreEvent = (
    Received
    | Ticked
    | Delivered
    | BrokerChanged
    | Acknowledged
    | RulesReplaced
    | ReceiversReplaced
    | NodeForgotten
    | RestoreAnnounced
    | GroupsReplaced
)
