"""How messages come in: the interface between a source of messages and whoever makes them take effect.

A source owns one or more partitions; everything of one node is in one partition, in order. The source acknowledges a
batch upstream when, and only when, `batch` has returned. `mqtt` is the source of a single machine: one partition.
"""

from collections.abc import Sequence
from typing import Protocol

from holdfast_collector.core.event import Received

PARTITION = "main"
"""The one partition of a single machine."""


class Intake(Protocol):
    """Who makes messages take effect."""

    async def opened(self, partition: str) -> None:
        """The source owns `partition` from now on; called before its first batch."""

    async def batch(self, partition: str, messages: Sequence[Received]) -> None:
        """Returns after the messages' effect is committed. While the store cannot commit it waits, and the source
        with it: that is the back-pressure. Never called again for a partition before it has returned."""

    async def closed(self, partition: str) -> None:
        """The source has given `partition` up; called after its last batch."""
