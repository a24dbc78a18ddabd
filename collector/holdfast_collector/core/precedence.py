"""What came before what: messages of a chain, its boots and its reads, however late they arrive."""

from holdfast_collector.core.chain import ChainRecord, Read
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


def sender_of(node: Node, record: ChainRecord, witness: Witness) -> Sender:
    """Who sends a witness, seen from the chain's newest writer."""
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


def unread(record: ChainRecord, witness: Witness) -> bool:
    """Whether the read that an agent sends before its first witness has not come: not since its boot, or its start."""
    if not record.reads:
        return True
    read = record.reads[-1]
    same = (read.install_id, read.boot_id) == (witness.install_id, witness.boot_id)
    return not same or read.position.epoch < witness.epoch


def stale(node: Node, record: ChainRecord, report: ChainReport) -> bool:
    """Whether something newer was compared already. A copy of a machine's memory begins to count anew."""
    if report.cause is ReadCause.FORK:
        return False
    here = (report.install_id, report.boot_id)
    if here == (record.writer.install_id, record.writer.boot_id) and report.position < record.head_position:
        return True  # the head was written after this read
    if not record.reads:
        return False
    newest, lives = record.reads[-1], node.lives
    there = (newest.install_id, newest.boot_id)
    if here == there:
        return report.position <= newest.position
    return _older(
        node, (report.boot_id, report.epoch), (newest.boot_id, newest.position.epoch)
    ) and not together(lives.get(here), lives.get(there))
