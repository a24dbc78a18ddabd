"""What survives: the interface between the shell and a database.

A partition has one owner at a time, known by its epoch. `sqlite` is the store of a single machine: one partition.
Every method blocks and may take as long as the disk; the shell calls them from one thread of their own.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from holdfast_collector.core.effect import Commit, Turned
from holdfast_collector.core.record import EventRow, Resolved, State


class Loaded(Struct, frozen=True, kw_only=True):
    """What a store gave back."""

    state: State
    unreadable: tuple[str, ...] = ()
    """Rows this release cannot read, as `table/key: why`. They stay in the database untouched."""


class Happened(Struct, frozen=True, kw_only=True):
    """What a store remembers of a node's past, each newest first."""

    turns: list[Turned]
    resolved: list[Resolved]
    """Alerts whose episode ended."""
    fates: list[EventRow]
    """What its boots turned out to be."""


class Store(Protocol):
    """A database that holds partitions."""

    def take(self, partition: str) -> int:
        """Become the partition's owner. The epoch to commit with; every older one is fenced off from now on."""

    def load(self, *, events_since: float, resolved_since: float) -> Loaded:
        """All that was committed. Of events and resolved alerts only what is younger, which is what the core needs."""

    def commit(self, partition: str, epoch: int, commits: Sequence[Commit]) -> None:
        """Make all of it durable, in order, in one transaction.

        Raises `Fenced` for an old owner and `StoreUnwritable` when the same commit may succeed later; in both cases
        nothing of it is in the database.
        """

    def happened(self, node: str, *, limit: int, kind: str = "", resource: str = "") -> Happened:
        """The newest `limit` of each sort of what happened to a node, or to some of its resources.

        Raises as `commit` does, and `StoreCorrupt`.
        """

    def prune(
        self,
        partition: str,
        epoch: int,
        *,
        events_before: float,
        resolved_before: float,
        history_before: float,
    ) -> int:
        """Delete a bounded number of rows that are older than people look back. How many; 0 when none is left.

        Raises as `commit` does.
        """

    def close(self) -> None:
        """Give the database up. The partition stays ours until somebody else takes it."""
