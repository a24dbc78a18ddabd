"""What survives: the interface between the shell and a database.

A partition has one owner at a time, known by its epoch. `sqlite` is the store of a single machine: one partition.
Every method blocks and may take as long as the disk; the shell calls them from one thread of their own.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from holdfast_collector.core.effect import Commit
from holdfast_collector.core.record import State


class Loaded(Struct, frozen=True, kw_only=True):
    """What a store gave back."""

    state: State
    unreadable: tuple[str, ...] = ()
    """Rows this release cannot read, as `table/key: why`. They stay in the database untouched."""


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

    def prune(self, partition: str, epoch: int, *, events_before: float, resolved_before: float) -> int:
        """Delete a bounded number of rows that are older than people look back. How many; 0 when none is left.

        Raises as `commit` does.
        """

    def close(self) -> None:
        """Give the database up. The partition stays ours until somebody else takes it."""
