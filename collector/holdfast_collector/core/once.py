"""Messages that must take effect once: told from their copies, taken in, and acknowledged with the commit.

seen before ─▶ acknowledged again       its reads are missing ─▶ not taken, not acknowledged: it must come again
"""

from holdfast_collector.core.counting import count_event
from holdfast_collector.core.effect import Commit, Effect, Noted, Publish, Rejected
from holdfast_collector.core.event import Received
from holdfast_collector.core.fold import Folded, fold_birth, fold_copy
from holdfast_collector.core.judge import Court
from holdfast_collector.core.lives import made_at
from holdfast_collector.core.node import Node
from holdfast_collector.core.record import Seen
from holdfast_collector.core.seen import SEEN_SECONDS, SeenMessages
from holdfast_collector.core.standing import Standing
from holdfast_collector.core.testimony import Testimony
from holdfast_wire import Ack, Acknowledgement, Birth, ChainReport, Event, ReadCause, Witness, content_digest
from holdfast_wire.message import DurableMessage


class Once:
    """What durable messages change."""

    def __init__(self, seen: SeenMessages, court: Court, testimony: Testimony, standing: Standing) -> None:
        self._seen = seen
        self._court = court
        self._testimony = testimony
        self._standing = standing

    def take(
        self, node: Node, message: DurableMessage, event: Received, commit: Commit, effects: list[Effect]
    ) -> Folded | None:
        """A message that must take effect once. Acknowledged whenever its effect is committed, now or before."""
        digest = content_digest(event.payload)
        place = f"{message.epoch}.{message.seq}"
        digests = self._seen.digests(node.name, message.install_id, (message.epoch, message.seq))
        taken = [Acknowledgement(message.epoch, message.seq, digest)]
        ack = Publish(node.name, Ack(install_id=message.install_id, messages=taken))
        if digest in digests:
            effects.append(ack)
            effects.append(Rejected(node.name, "duplicate", place, event.payload))
            return None
        # A young message before the floor is of a copy of the machine's memory, which counts from where it was taken.
        made = made_at(node.lives[(message.install_id, message.boot_id)], message.mono)
        old = event.at - made > SEEN_SECONDS and message.boot_id in node.record.boots
        before_floor = old and message.position < node.record.floor
        # A machine that was set back knows nothing of what its former self sent: a witness that the broker kept counts.
        promise = isinstance(message, Witness) or self._standing.beside(node, message)
        if not digests and before_floor and not promise:
            # The agent has promised never to send it again, and it is so old that nobody remembers it: a replay. Not
            # acknowledged, so should it be real after all, its sender still has it.
            effects.append(Rejected(node.name, "replayed", f"{place} is before the floor", event.payload))
            return None
        if digests:
            detail = f"{place} was another message before: a clone, or a rolled-back machine"
            effects.append(Noted(node.name, "twin message taken", detail))
        row = Seen(node.name, message.install_id, message.epoch, message.seq, digest, event.at)
        self._seen.take(row)
        commit.seen.append(row)
        effects.append(ack)
        match message:
            case Birth():
                return fold_birth(node, message, event.at)
            case Event():
                return count_event(node, message, event.at, self._court.in_force(node.name).rules, commit)
            case Witness():
                folded = self._testimony.witness(node, message, event.at, commit, effects)
            case ChainReport():
                if message.cause is ReadCause.FORK:
                    fold_copy(node, message)
                folded = self._testimony.read(node, message, event.at, commit, effects)
        if folded is None:
            self._seen.untake([commit.seen.pop()])
            effects.remove(ack)
            effects.append(Rejected(node.name, "early", "an earlier chain report is missing", event.payload))
        return folded
