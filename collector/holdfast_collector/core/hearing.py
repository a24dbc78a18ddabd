"""A chain hears a witness or a read of itself: what it remembers afterwards, as a value.

A witness raises the head. A read is compared first (`comparison.py`), and what falls short is a suspicion until a second
read says the same; only then it is a breach. A promise that arrives after the read that did not contain it is held
against that read.
"""

from enum import StrEnum

from msgspec import Struct, structs

from holdfast_collector.core.chain import (
    LOSSES,
    Breach,
    BreachKind,
    ChainRecord,
    ChainState,
    Read,
    Suspicion,
    Writer,
    common,
    differing,
    short,
    with_breach,
    with_marks,
    with_read,
)
from holdfast_collector.core.comparison import Beside, Case, Conclusion, Row, beside, shortage_kind
from holdfast_collector.core.exhibit import (
    corruption_words,
    deleted_words,
    fork_words,
    loss_words,
    witness_fork_words,
)
from holdfast_collector.core.survival import event_class, survived
from holdfast_wire import ChainHead, ChainReport, Witness


class Sender(StrEnum):
    """Who sends a witness, seen from the chain's newest writer."""

    CURRENT = "current"
    NEWER = "newer"
    """A boot that is not known to be older."""
    OLDER = "older"
    """An earlier boot, whose message was long under way."""
    ALIVE = "alive"
    """An earlier boot, and it lives: there are two machines."""


class Heard(Struct, frozen=True, kw_only=True):
    """What a chain remembers now, and what is new about it."""

    record: ChainRecord
    breaches: tuple[Breach, ...] = ()
    """Established by this message."""
    conclusion: Conclusion | None = None
    """What the read means, once that is settled; None while it is suspected only."""
    words: str = ""
    answer: bool = False
    """The agent shall be told what is expected, although it did not ask."""
    early: bool = False
    """The message contradicts what is known, and the read that may explain it is still under way: it must come again."""


# ---- witnesses ---------------------------------------------------------------------------------------------------


def begun_by(witness: Witness, at: float) -> ChainRecord:
    """A chain that is met by a witness first."""
    writer = Writer(
        install_id=witness.install_id, boot_id=witness.boot_id, epoch=witness.epoch, mono=witness.mono
    )
    return ChainRecord(
        node=witness.node,
        chain_id=witness.chain_id,
        volume=witness.volume,
        owner=witness.install_id,
        began_at=at,
        writer=writer,
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
        return Heard(record=record, answer=True)
    if restored_collector:
        record = structs.replace(record, told_seq=max(record.told_seq, witness.head.seq))
        return Heard(record=_raised(structs.replace(record, marks=()), witness, sender, at))
    known, previous = record.mark(witness.head.seq), record.mark(witness.previous.seq)
    record = structs.replace(record, told_seq=max(record.told_seq, witness.head.seq))
    if known == short(witness.head.hash):
        return Heard(record=record)
    lacking = tuple(read for read in later if witness.head.seq > read.seq)
    if lacking and sender is not Sender.ALIVE:
        # Numbers beyond what a read found are free: another line's records under them prove nothing.
        return _late(record, witness, lacking, at)
    contradicts = bool(known or (previous and previous != short(witness.previous.hash)))
    if contradicts and sender is not Sender.ALIVE and unread:
        return Heard(record=record, early=True)
    if contradicts or sender is Sender.ALIVE:
        return _forked(record, witness_fork_words(record, witness, sender.value), at)
    return Heard(record=_raised(record, witness, sender, at))


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
        target_written_at=witness.written_at,
        survived_seq=first.seq,
        survived_written_at=first.written_at,
        writer=(witness.install_id, witness.boot_id),
        evidence=f"its witness arrived after the read of record {first.seq}",
    )
    held = record.suspicion
    if held is not None:
        if witness.head.seq > held.target.seq:
            held = structs.replace(held, target=witness.head, target_written_at=witness.written_at)
        return Heard(record=structs.replace(record, suspicion=held), answer=True)
    loss = next((one for one in reversed(record.breaches) if one.kind in LOSSES and one.at >= first.at), None)
    if loss is not None:
        more = _breach(suspicion, at, "", record.volume)
        if more.records <= loss.records:
            return Heard(record=record)
        grown = structs.replace(loss, records=more.records, seconds=more.seconds, evidence=more.evidence)
        breaches = tuple(grown if one is loss else one for one in record.breaches)
        return Heard(record=structs.replace(record, breaches=breaches))
    if len(lacking) > 1:
        breach = _breach(suspicion, at, "", record.volume)
        return Heard(record=with_breach(record, breach), breaches=(breach,))
    return Heard(record=structs.replace(record, suspicion=suspicion), answer=True)


# ---- reads -------------------------------------------------------------------------------------------------------


def begun_by_read(report: ChainReport, made_at: float, at: float, *, foreign: str = "") -> ChainRecord:
    """A chain that is met by a read of it first. Another machine's is kept as evidence, not gone on with."""
    head = report.head
    kind = BreachKind.ROLLED_BACK if report.previous_boot == "clean" else BreachKind.LOST_TAIL
    return ChainRecord(
        node=report.node,
        chain_id=report.chain_id,
        volume=report.identity.volume,
        owner=report.owner or report.install_id,
        state=ChainState.FROZEN if foreign else ChainState.OPEN,
        began_at=at,
        head=head,
        head_at=at if head else 0.0,
        written_at=report.written_at,
        told_seq=report.acknowledged_seq,
        clean_stop=report.clean_stop,
        marks=with_marks(report.hashes, (head,) if head else ()),
        writer=_writer(report),
        metadata_seq=report.metadata_seq,
        reads=(_read(report, made_at, kind),),
        read_mode=report.read_mode,
        foreign=foreign,
    )


def hear_read(case: Case, row: Row, made_at: float, at: float, announced: str) -> Heard:
    """The chain that was found, after `row` was concluded of it. `announced` is the reason of a restore under way."""
    record, report = case.known, case.report
    match row.conclusion:
        case Conclusion.UNREADABLE | Conclusion.STALE:
            return Heard(record=record)
        case Conclusion.CLOSED:
            return Heard(record=record, conclusion=row.conclusion)
        case Conclusion.FORK:
            words = fork_words(record, report, differing(record, report), common(record, report))
            return _forked(record, words, at)
        case Conclusion.SWAPPED:
            words = f"the chain of {record.volume} is on {report.identity.volume}"
            moved = structs.replace(record, found_on=report.identity.volume)
            return Heard(record=moved, conclusion=row.conclusion, words=words)
        case _:
            pass
    read = _read(report, made_at, shortage_kind(case))
    heard = _compared(case, row, at, announced)
    shown = beside(case)
    after = structs.replace(
        heard.record,
        reads=with_read(record, read),
        told_seq=max(record.told_seq, report.acknowledged_seq),
        read_mode=report.read_mode,
        writer=_writer(report),
        volume=report.identity.volume if Beside.MOVED in shown else record.volume,
        found_on="",
        missing="",
        excused="",
        cache_differs=Beside.CACHE_DIFFERS in shown,
    )
    breaches = (*heard.breaches, *_corruption(record, case, at))
    for breach in breaches[len(heard.breaches) :]:
        after = with_breach(after, breach)
    after = structs.replace(after, broken=_interior(report), breaches=_returned(after.breaches, at))
    return structs.replace(heard, record=after, breaches=breaches)


def _read(report: ChainReport, made_at: float, kind: BreachKind) -> Read:
    return Read(
        position=report.position,
        install_id=report.install_id,
        boot_id=report.boot_id,
        at=made_at,
        seq=report.head.seq if report.head else 0,
        written_at=report.written_at,
        kind=kind,
    )


def _compared(case: Case, row: Row, at: float, announced: str) -> Heard:
    record, report = case.known, case.report
    if row.loss is None:
        held = record.suspicion
        event = held.event if held is not None else event_class(record, report) or ""
        after = structs.replace(record, suspicion=None)
        if case.restored_collector:
            return Heard(
                record=_adopted(after, report, at, whatever=True),
                conclusion=row.conclusion,
                words=f"{record.volume} adopted",
            )
        if row.conclusion is Conclusion.SURVIVED:
            after = survived(after, event, at)
        if row.conclusion is Conclusion.BEHIND:
            after = structs.replace(after, behind_at=at, behind_excused=False)
        return Heard(
            record=_adopted(after, report, at), conclusion=row.conclusion, words=f"{record.volume} whole"
        )
    held = record.suspicion
    if held is None:
        return Heard(record=_suspected(case, row.loss, at, announced))
    breach = _breach(held, at, announced, record.volume)
    after = with_breach(structs.replace(record, suspicion=None), breach)
    if breach.kind is BreachKind.METADATA:
        after = structs.replace(after, metadata_seq=report.metadata_seq)
    settled = _adopted(after, report, at, whatever=True)
    return Heard(
        record=settled, breaches=(breach,), conclusion=Conclusion(breach.kind.value), words=breach.evidence
    )


def _adopted(record: ChainRecord, report: ChainReport, at: float, *, whatever: bool = False) -> ChainRecord:
    """Take what was read for what is: when it is newer than what is known, or `whatever` it is."""
    head = report.head
    known = record.head
    record = structs.replace(record, marks=with_marks(_up_to(record, head, whatever), _named(report)))
    if head is None or (known is not None and head.seq <= known.seq and not whatever):
        return structs.replace(record, metadata_seq=max(record.metadata_seq, report.metadata_seq))
    return structs.replace(
        record,
        head=head,
        head_at=at,
        head_position=report.position,
        written_at=report.written_at,
        clean_stop=report.clean_stop,
        metadata_seq=report.metadata_seq if whatever else max(record.metadata_seq, report.metadata_seq),
    )


def _suspected(case: Case, kind: BreachKind, at: float, announced: str) -> ChainRecord:
    """Go on from what was read, and keep what was promised until a second read."""
    record, report = case.known, case.report
    target = record.target
    assert target is not None, "what nobody promised cannot be short"
    below = report.head is None or report.head.seq < target.seq
    suspicion = Suspicion(
        kind=kind,
        at=at,
        position=report.position,
        target=target,
        target_written_at=record.written_at,
        survived_seq=(report.head.seq if report.head else 0) if below else common(record, report),
        survived_written_at=report.written_at if below else 0.0,
        event=event_class(record, report) or "",
        writer=(record.writer.install_id, record.writer.boot_id),
        announced=announced,
        evidence=loss_words(record, report),
    )
    if kind is BreachKind.METADATA:
        return structs.replace(
            _adopted(record, report, at), suspicion=suspicion, metadata_seq=record.metadata_seq
        )
    metadata_seq = record.metadata_seq
    after = _adopted(record, report, at, whatever=True)
    return structs.replace(after, suspicion=suspicion, metadata_seq=min(metadata_seq, report.metadata_seq))


def _up_to(record: ChainRecord, head: ChainHead | None, whatever: bool) -> tuple[ChainHead, ...]:
    """The known records that a read leaves standing: what is beyond its newest is another line's from now on."""
    if not whatever:
        return record.marks
    newest = head.seq if head else 0
    return tuple(mark for mark in record.marks if mark.seq <= newest)


def _named(report: ChainReport) -> tuple[ChainHead, ...]:
    return (*report.hashes, report.head) if report.head else tuple(report.hashes)


def _writer(report: ChainReport) -> Writer:
    return Writer(
        install_id=report.install_id,
        boot_id=report.boot_id,
        epoch=report.epoch,
        mono=report.mono,
        instance_id=report.machine.instance_id,
        machine_id=report.machine.machine_id,
        filesystem_id=report.identity.filesystem_id,
        device_id=report.identity.device_id,
        mount_id=report.identity.mount_id,
        mount_root=report.identity.mount_root,
    )


def _breach(held: Suspicion, at: float, announced: str, volume: str) -> Breach:
    """A suspicion that a second read confirmed."""
    announced = held.announced or announced
    metadata = held.kind is BreachKind.METADATA
    records = 0 if metadata else max(0, held.target.seq - held.survived_seq)
    seconds = 0.0
    if held.survived_written_at and not metadata:
        seconds = max(0.0, held.target_written_at - held.survived_written_at)
    words = f"{volume}: " + (
        f"record {held.target.seq} was confirmed and is gone, {held.survived_seq} is the newest that survived"
        f" ({records} records, {seconds:.0f} s); {held.evidence}"
        if not metadata
        else f"a renamed file is gone although the records survived; {held.evidence}"
    )
    return Breach(
        kind=held.kind,
        at=at,
        records=records,
        seconds=seconds,
        evidence=words,
        acknowledged_at=at if announced else 0.0,
        reason=f"announced: {announced}" if announced else "",
        announced=bool(announced),
    )


def _interior(report: ChainReport) -> tuple[int, ...]:
    head = report.head.seq if report.head else 0
    return tuple(seq for seq in report.broken if seq < head)


def _corruption(record: ChainRecord, case: Case, at: float) -> tuple[Breach, ...]:
    """Records that two reads in a row found damaged. A misread is no damage."""
    again = sorted(set(_interior(case.report)) & set(record.broken))
    told = any(one.kind is BreachKind.CORRUPT and one.open for one in record.breaches)
    if not again or told:
        return ()
    return (
        Breach(kind=BreachKind.CORRUPT, at=at, records=len(again), evidence=corruption_words(record, again)),
    )


def _returned(breaches: tuple[Breach, ...], at: float) -> tuple[Breach, ...]:
    """A chain that was missed and is here again is missed no more."""
    return tuple(
        structs.replace(one, acknowledged_at=at, reason="found again")
        if one.kind is BreachKind.DELETED and one.open
        else one
        for one in breaches
    )


def _forked(record: ChainRecord, words: str, at: float) -> Heard:
    breach = Breach(kind=BreachKind.FORK, at=at, evidence=f"{record.volume}: {words}")
    frozen = structs.replace(record, state=ChainState.FROZEN, suspicion=None)
    return Heard(
        record=with_breach(frozen, breach),
        breaches=(breach,),
        conclusion=Conclusion.FORK,
        words=breach.evidence,
        answer=True,
    )


# ---- a chain that is not where it should be ----------------------------------------------------------------------


def hear_absence(case: Case, row: Row, at: float, announced: str) -> Heard:
    """The chain that should have been found, after `row` was concluded of it."""
    record, report = case.known, case.report
    ended = structs.replace(record, state=ChainState.ENDED, suspicion=None)
    match row.conclusion:
        case Conclusion.UNREADABLE | Conclusion.STALE:
            return Heard(record=record)
        case Conclusion.MOUNT_MISSING:
            words = f"{record.volume} is not mounted"
            return Heard(record=_missed(record, "mount_missing"), conclusion=row.conclusion, words=words)
        case Conclusion.SWAPPED | Conclusion.WRONG_DISK:
            whose = f"the disk of {case.elsewhere}" if case.elsewhere else f"a disk of {case.foreign}"
            words = f"{record.volume} holds {whose}"
            return Heard(record=_missed(record, "wrong_disk"), conclusion=row.conclusion, words=words)
        case Conclusion.RESET | Conclusion.LEFT_BEHIND:
            words = f"{record.volume}: {row.conclusion.value.replace('_', ' ')}"
            return Heard(record=ended, conclusion=row.conclusion, words=words)
        case Conclusion.REFORMATTED if record.target is not None:
            return _reformatted(record, report, at, announced)
        case Conclusion.DELETED if record.target is not None:
            return _deleted(record, report, at)
        case _:
            return Heard(
                record=ended, conclusion=row.conclusion, words=f"{record.volume}: nothing was promised"
            )


def _missed(record: ChainRecord, why: str) -> ChainRecord:
    return structs.replace(
        record, missing=why, excused=record.excused if record.excused == why else "", found_on=""
    )


def _reformatted(record: ChainRecord, report: ChainReport, at: float, announced: str) -> Heard:
    held, target = record.suspicion, record.target
    assert target is not None, "the caller has looked"
    if held is None:
        before, now = record.writer.filesystem_id, report.identity.filesystem_id
        suspicion = Suspicion(
            kind=BreachKind.REFORMATTED,
            at=at,
            position=report.position,
            target=target,
            target_written_at=record.written_at,
            survived_seq=0,
            survived_written_at=0.0,
            writer=(record.writer.install_id, record.writer.boot_id),
            announced=announced,
            evidence=f"filesystem {now} where {before} was, on {report.identity.device or 'its device'}",
        )
        return Heard(record=structs.replace(record, suspicion=suspicion))
    breach = _breach(held, at, announced, record.volume)
    after = structs.replace(with_breach(record, breach), state=ChainState.ENDED, suspicion=None)
    return Heard(
        record=after, breaches=(breach,), conclusion=Conclusion(breach.kind.value), words=breach.evidence
    )


def _deleted(record: ChainRecord, report: ChainReport, at: float) -> Heard:
    """A second chain ends the first; until then it may come back."""
    words = deleted_words(record, report)
    breaches: tuple[Breach, ...] = ()
    if not any(one.kind is BreachKind.DELETED and one.open for one in record.breaches):
        breaches = (Breach(kind=BreachKind.DELETED, at=at, evidence=words),)
        record = with_breach(record, breaches[0])
    if report.chain_id:
        record = structs.replace(record, state=ChainState.ENDED, suspicion=None)
    return Heard(record=record, breaches=breaches, conclusion=Conclusion.DELETED, words=words)
