"""In which order the messages of a chain were made, which is not the order they come in.

Positions order the messages of one boot. Boots are ordered by when they were met alive, and where that is not known by
the agent's start counter, which only a machine that was set back turns round. What cannot be placed waits.
"""

from holdfast_collector.core.chain import ChainRecord, Read, overtaken
from holdfast_collector.core.lives import Life, together
from holdfast_collector.core.node import Node
from holdfast_collector.core.promise import Sender
from holdfast_wire import ChainReport, ReadCause, Witness


def _older(node: Node, one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether a boot came before another one, each with the epoch of its message.

    Boots that were met alive are known in their order. Of others the start counter must tell, which only a machine that
    was set back turns round.
    """
    boots = node.record.boots
    if one[0] in boots and other[0] in boots:
        return boots.index(one[0]) < boots.index(other[0])
    return one[0] != other[0] and one[1] < other[1]


def is_unplaced(node: Node, message: Witness | ChainReport) -> bool:
    """Whether nobody can say if the sender is an earlier boot or a machine that was set back: it was not met alive."""
    return message.boot_id not in node.record.boots and message.epoch <= node.position.epoch


def sender_of(node: Node, record: ChainRecord, witness: Witness) -> Sender:
    writer = record.writer
    if (witness.install_id, witness.boot_id) == (writer.install_id, writer.boot_id):
        return Sender.CURRENT
    here: Life | None = node.lives.get((witness.install_id, witness.boot_id))
    if together(here, node.lives.get((writer.install_id, writer.boot_id))):
        return Sender.ALIVE
    return (
        Sender.OLDER
        if _older(node, (witness.boot_id, witness.epoch), (writer.boot_id, writer.epoch))
        else Sender.NEWER
    )


def later_reads(node: Node, record: ChainRecord, witness: Witness, sender: Sender) -> tuple[Read, ...]:
    """The remembered reads that came after the witness was written."""
    if sender is Sender.NEWER:
        return ()
    same = (witness.install_id, witness.boot_id)
    return tuple(
        read
        for read in record.reads
        if (
            read.position > witness.position
            if (read.install_id, read.boot_id) == same
            else _older(node, (witness.boot_id, witness.epoch), (read.boot_id, read.position.epoch))
        )
    )


def start_is_unread(record: ChainRecord, witness: Witness) -> bool:
    """Whether the read that an agent sends before its first witness has not come: not since its boot, or its start."""
    writer = record.writer
    here = (witness.install_id, witness.boot_id, witness.epoch)
    if here == (writer.install_id, writer.boot_id, writer.epoch):
        # It came, or one of its records was taken without it, and it has nothing to say any more.
        return False
    if not record.reads:
        return True
    read = record.reads[-1]
    same = (read.install_id, read.boot_id) == (witness.install_id, witness.boot_id)
    # The read of a fork may have been overtaken by the one of an agent started since, and took its place.
    return not same or (read.position.epoch < witness.epoch and not read.fork)


def boot_is_unread(record: ChainRecord, report: ChainReport) -> bool:
    """Whether the read that a boot began with has not come: this one shows what the boot wrote after it."""
    here = (report.install_id, report.boot_id)
    if report.written_by_boot != report.boot_id or here == (record.writer.install_id, record.writer.boot_id):
        return False
    return not any((read.install_id, read.boot_id) == here for read in record.reads)


def is_stale(node: Node, record: ChainRecord, report: ChainReport) -> bool:
    """Whether something newer was compared already. A copy of a machine's memory begins to count anew."""
    found = report.chain_id == record.chain_id
    if found and report.cause is ReadCause.FORK:
        return False
    here, writer = (report.install_id, report.boot_id), record.writer
    there = (writer.install_id, writer.boot_id)
    if overtaken(record, report):
        # The head was written after this read. It may still be the second one that a suspicion waits for.
        held = record.suspicion
        return held is None or report.position <= held.position
    if record.head is not None and _before(node, report, there, writer.epoch):
        return True  # and by a later boot
    missed = record.missed_by
    if missed is not None:
        # It was there once, as this read says, and was not any more when a later one looked.
        there = (missed.install_id, missed.boot_id)
        if (
            report.position <= missed.position
            if here == there
            else _before(node, report, there, missed.position.epoch)
        ):
            return True
    if not record.reads:
        return False
    newest = record.reads[-1]
    there = (newest.install_id, newest.boot_id)
    if here == there:
        return report.position <= newest.position
    return _before(node, report, there, newest.position.epoch)


def _before(node: Node, report: ChainReport, there: tuple[str, str], epoch: int) -> bool:
    """Whether a read is of an earlier boot than `there` (install_id, boot_id), and of the same machine."""
    here = (report.install_id, report.boot_id)
    return _older(node, (report.boot_id, report.epoch), (there[1], epoch)) and not together(
        node.lives.get(here), node.lives.get(there)
    )
