"""One node as the collector knows it: identity, sections, and the resources they add up to."""

from msgspec import Struct

from holdfast_collector.core.record import NodeRecord
from holdfast_wire import Section
from holdfast_wire.message import SpoolState, Value

ResourceKey = tuple[str, str]
"""(kind, name)"""


class HeldSection(Struct):
    """A probe's newest section, and when by the collector's clock it was last known to be true."""

    section: Section
    digest: str
    observed_at: float
    """The collector's receive time less the age the agent gave: no VM's wall clock is involved."""
    duration_seconds: float
    stale: bool = False
    """Nothing newer came within three periods: its facts are no longer evidence."""


class Node:
    """A node, changed in place by `fold` only. Everybody else reads."""

    def __init__(self, record: NodeRecord) -> None:
        self.record = record
        self.sections: dict[str, HeldSection] = {}
        self.awaited: dict[str, float] = {}
        """Probes whose section the collector asked for → when it asked."""
        self.spool: SpoolState | None = None
        self.last_report_at = record.last_report_at
        self.reporting: bool | None = None
        """None until the collector has watched it for a full grace period."""
        self.claimants: dict[str, float] = {}
        """Other install ids that speak under this name → when last."""
        self.resources: dict[ResourceKey, dict[str, Value]] = {}
        """All fresh facts by resource, the collector's own and those counted from events included. Stale ones are
        absent."""
        self.observed: dict[ResourceKey, float] = {}
        """When a resource's section was last observed, collector's clock."""

    @property
    def name(self) -> str:
        return self.record.node
