"""The memory of durable messages whose effect is committed: what makes a second copy a duplicate, and a twin a twin."""

from collections.abc import Iterable

from holdfast_collector.core.record import Seen

SEEN_SECONDS = 86_400.0
"""How long the identity of a durable message outlives the agent's promise not to send it again: a broker restored
from an old copy, or a machine rolled back with its memory, comes with such messages."""

Place = tuple[int, int]
"""(epoch, seq)"""


class SeenMessages:
    """(node, installation) → position → digest → when it was taken."""

    def __init__(self, rows: Iterable[Seen] = ()) -> None:
        self._of: dict[tuple[str, str], dict[Place, dict[str, float]]] = {}
        for row in rows:
            self.take(row)

    def digests(self, node: str, install_id: str, place: Place) -> dict[str, float]:
        """What was taken at this position: more than one digest means twins."""
        return self._of.get((node, install_id), {}).get(place, {})

    def take(self, row: Seen) -> None:
        """Remember a message."""
        positions = self._of.setdefault((row.node, row.install_id), {})
        positions.setdefault((row.epoch, row.seq), {})[row.digest] = row.at

    def untake(self, rows: Iterable[Seen]) -> None:
        """Forget messages whose effect was not committed after all."""
        for row in rows:
            del self._of[(row.node, row.install_id)][(row.epoch, row.seq)][row.digest]

    def forget_node(self, node: str) -> None:
        """The node is gone."""
        for owner in [owner for owner in self._of if owner[0] == node]:
            del self._of[owner]

    def prune(self, node: str, install_id: str, floor: Place, at: float) -> list[tuple[str, str, int, int]]:
        """Forget what lies before the floor and is older than any broker's copy; the rows that are needed no more."""
        positions = self._of.get((node, install_id), {})
        old = [
            place
            for place, digests in positions.items()
            if place < floor and at - max(digests.values(), default=0.0) > SEEN_SECONDS
        ]
        for place in old:
            del positions[place]
        return [(node, install_id, *place) for place in old]
