"""A chain hears a witness: a promise that raises its head, contradicts what is known, or comes too late to be kept."""

from enum import StrEnum

from msgspec import structs

from holdfast_collector.core.chain import (
    LOSSES,
    BreachKind,
    ChainRecord,
    ChainState,
    Read,
    Suspicion,
    Writer,
    short,
    with_breach,
    with_marks,
)
from holdfast_collector.core.exhibit import witness_fork_words
from holdfast_collector.core.heard import Heard, breach_of, forked
from holdfast_wire import Witness
from holdfast_wire.message import RECENT_RECORDS


class Sender(StrEnum):
    """Who sends a witness, seen from the chain's newest writer."""

    CURRENT = "current"
    NEWER = "newer"
    """A boot that is not known to be older."""
    OLDER = "older"
    """An earlier boot, whose message was long under way."""
    ALIVE = "alive"
    """An earlier boot, and it lives: there are two machines."""


def begun_by(witness: Witness, at: float) -> ChainRecord:
    """A chain that is met by a witness first: the read that introduces it was overtaken."""
    return ChainRecord(
        node=witness.node,
        chain_id=witness.chain_id,
        volume=witness.volume,
        owner=witness.install_id,
        began_at=at,
        writer=Writer(
            install_id=witness.install_id, boot_id=witness.boot_id, epoch=witness.epoch, mono=witness.mono
        ),
    )


def hear_witness(
    record: ChainRecord,
    witness: Witness,
    sender: Sender,
    later: tuple[Read, ...],
    at: float,
    *,
    unread: bool = False,
    restored_collector: bool = False,
) -> Heard:
    """`later` are the reads that came after the witness was written, as far as they are remembered.

    `unread` says that the sender's own read of the chain, which goes before its first witness, has not come yet.

    After the collector was restored its memory convicts nobody: what the chain says now is what counts.
    """
    if record.state is not ChainState.OPEN:
        told = max(record.told_seq, witness.head.seq)
        return Heard(record=structs.replace(record, told_seq=told), answer=True)
    if restored_collector:
        record = structs.replace(record, told_seq=max(record.told_seq, witness.head.seq))
        return Heard(record=_raised(structs.replace(record, marks=()), witness, sender, at))
    if witness.acknowledged_seq > record.told_seq:
        return _taught(record, witness, sender, at)
    if unread:
        return Heard(record=record, early=True)
    known, previous = record.mark(witness.head.seq), record.mark(witness.previous.seq)
    record = structs.replace(record, told_seq=max(record.told_seq, witness.head.seq))
    if known == short(witness.head.hash):
        return Heard(record=record)
    contradicts = bool(known or (previous and previous != short(witness.previous.hash)))
    lacking = tuple(read for read in later if witness.head.seq > read.seq)
    if contradicts and sender is Sender.OLDER:
        lacking = later  # they found another line's record under its number
    if lacking and sender is not Sender.ALIVE:
        # Numbers beyond what a read found are free: another line's records under them prove nothing.
        return _late(record, witness, lacking, at)
    if contradicts or sender is Sender.ALIVE:
        return forked(record, witness_fork_words(record, witness, sender.value), at)
    return Heard(record=_raised(record, witness, sender, at))


def _taught(record: ChainRecord, witness: Witness, sender: Sender, at: float) -> Heard:
    """The machine holds an acknowledgement that this collector does not remember: what it remembers convicts nobody."""
    told = max(witness.head.seq, witness.acknowledged_seq)
    behind = structs.replace(
        record, marks=(), suspicion=None, behind_at=at, behind_excused=False, told_seq=told
    )
    return Heard(record=_raised(behind, witness, sender, at))


def _raised(record: ChainRecord, witness: Witness, sender: Sender, at: float) -> ChainRecord:
    marks = with_marks(record.marks, (witness.previous, witness.head))
    if sender is Sender.OLDER or (record.head is not None and witness.head.seq <= record.head.seq):
        return structs.replace(record, marks=marks)
    writer = structs.replace(record.writer, epoch=witness.epoch, mono=witness.mono)
    if sender is Sender.NEWER:
        writer = structs.replace(writer, install_id=witness.install_id, boot_id=witness.boot_id)
    return structs.replace(
        record,
        head=witness.head,
        head_at=at,
        head_position=witness.position,
        written_at=witness.written_at,
        clean_stop=witness.clean_stop,
        fsync_seconds=witness.fsync_seconds,
        metadata_seq=max(record.metadata_seq, witness.metadata_seq),
        marks=marks,
        writer=writer,
    )


def _late(record: ChainRecord, witness: Witness, lacking: tuple[Read, ...], at: float) -> Heard:
    """A promise that reads which came first did not contain: a loss that could not be seen then."""
    first = lacking[0]
    suspicion = Suspicion(
        kind=first.kind,
        at=first.at,
        position=first.position,
        target=witness.head,
        witnessed=witness.position,
        target_written_at=witness.written_at,
        survived_seq=min(first.seq, witness.head.seq - 1),
        survived_written_at=first.written_at,
        writer=(witness.install_id, witness.boot_id),
        evidence=f"its witness arrived after the read of record {first.seq}",
    )
    held = record.suspicion
    if held is not None and held.kind is not BreachKind.METADATA:
        if witness.head.seq > held.target.seq:
            held = structs.replace(
                held,
                target=witness.head,
                others=with_marks(held.others, (held.target,)),
                witnessed=witness.position,
                target_written_at=witness.written_at,
            )
        return Heard(record=structs.replace(record, suspicion=held), answer=True)
    loss = next((one for one in reversed(record.breaches) if one.kind in LOSSES and one.at >= first.at), None)
    if loss is not None:
        more = breach_of(suspicion, at, "", record.volume)
        if more.records <= loss.records:
            return Heard(record=record)
        grown = structs.replace(loss, records=more.records, seconds=more.seconds, evidence=more.evidence)
        breaches = tuple(grown if one is loss else one for one in record.breaches)
        return Heard(record=structs.replace(record, breaches=breaches))
    if len(lacking) > 1 and not _may_be_a_copys(record, witness, lacking):
        breach = breach_of(suspicion, at, "", record.volume)
        return Heard(record=with_breach(record, breach), breaches=(breach,))
    return Heard(record=structs.replace(record, suspicion=suspicion), answer=True)


def _may_be_a_copys(record: ChainRecord, witness: Witness, lacking: tuple[Read, ...]) -> bool:
    """Whether a copy of the sender's memory, which counts from where it was taken, may have written this after the reads.

    The next read tells, unless it is not to speak of the record any more.
    """
    same = (witness.install_id, witness.boot_id)
    listed = record.head is None or record.head.seq - witness.head.seq < RECENT_RECORDS
    return listed and all((read.install_id, read.boot_id) == same for read in lacking)
