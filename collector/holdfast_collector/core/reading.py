"""A chain hears a read of itself, after it was compared (`comparison.py`).

What falls short is a suspicion until a second read says the same; only then it is a breach.
"""

from msgspec import structs

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
    overtaken,
    with_breach,
    with_marks,
    with_read,
)
from holdfast_collector.core.comparison import Beside, Case, Conclusion, Row, beside, shortage_kind
from holdfast_collector.core.exhibit import corruption_words, fork_words, loss_words
from holdfast_collector.core.heard import Heard, breach_of, forked
from holdfast_collector.core.survival import event_class, survived
from holdfast_wire import ChainHead, ChainReport, Position, ReadCause


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
        writer=writer_of(report),
        metadata_seq=report.metadata_seq,
        reads=(_read(report, made_at, kind),),
        read_mode=report.read_mode,
        foreign=foreign,
    )


def hear_read(case: Case, row: Row, made_at: float, at: float, announced: str) -> Heard:
    """The chain that was found, after `row` was concluded of it. `announced` is the reason of a restore under way."""
    record, report = case.known, case.report
    if (record.writer.install_id, record.writer.boot_id) != (report.install_id, report.boot_id):
        # Positions of another boot's messages, or another installation's, are not to be compared with these.
        record = structs.replace(record, head_position=Position(0, 0))
    match row.conclusion:
        case Conclusion.UNREADABLE:
            return Heard(record=case.known)
        case Conclusion.STALE:
            known = case.known
            return Heard(record=structs.replace(known, writer=_introduced(known.writer, report)))
        case Conclusion.CLOSED:
            return Heard(record=record, conclusion=row.conclusion)
        case Conclusion.FORK:
            words = fork_words(record, report, differing(record, report), common(record, report))
            return forked(record, words, at)
        case Conclusion.SWAPPED:
            words = f"the chain of {record.volume} is on {report.identity.volume}"
            moved = structs.replace(record, found_on=report.identity.volume)
            return Heard(record=moved, conclusion=row.conclusion, words=words)
        case _:
            pass
    read = _read(report, made_at, shortage_kind(case))
    heard = _compared(structs.replace(case, chain=record), row, at, announced)
    shown = beside(case)
    after = structs.replace(
        heard.record,
        # The positions of what was read before a copy was taken are another count's.
        reads=(read,) if report.cause is ReadCause.FORK else with_read(record, read),
        told_seq=max(record.told_seq, report.acknowledged_seq),
        read_mode=report.read_mode,
        writer=writer_of(report),
        volume=report.identity.volume if Beside.MOVED in shown else record.volume,
        found_on="",
        missing="",
        missed_by=None,
        excused="",
        cache_differs=Beside.CACHE_DIFFERS in shown,
    )
    damage, told = _damage(record, heard, report, at)
    for breach in damage:
        after = with_breach(after, breach)
    after = structs.replace(
        after, broken=_interior(report), damage_told=told, breaches=_returned(after.breaches, at)
    )
    return structs.replace(heard, record=after, breaches=(*heard.breaches, *damage))


def _read(report: ChainReport, made_at: float, kind: BreachKind) -> Read:
    return Read(
        position=report.position,
        install_id=report.install_id,
        boot_id=report.boot_id,
        at=made_at,
        seq=report.head.seq if report.head else 0,
        written_at=report.written_at,
        kind=kind,
        fork=report.cause is ReadCause.FORK,
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
    if held is None or (held.kind is BreachKind.METADATA) is not (row.loss is BreachKind.METADATA):
        # The second read says something else than the first: the records are there, or are not there any more.
        afresh = structs.replace(case, chain=structs.replace(record, suspicion=None))
        return Heard(record=_suspected(afresh, row.loss, at, announced))
    if _goes_before(report, held):
        kept = structs.replace(_with_promised(held, record, report), kind=row.loss, position=report.position)
        return Heard(record=structs.replace(_adopted(record, report, at, whatever=True), suspicion=kept))
    breach = breach_of(held, at, announced, record.volume)
    after = with_breach(structs.replace(record, suspicion=None), breach)
    if breach.kind is BreachKind.METADATA:
        after = structs.replace(after, metadata_seq=report.metadata_seq)
    settled = _adopted(after, report, at, whatever=True)
    return Heard(
        record=settled, breaches=(breach,), conclusion=Conclusion(breach.kind.value), words=breach.evidence
    )


def _goes_before(report: ChainReport, held: Suspicion) -> bool:
    """Whether a copy of a memory began with this read, and may have written what is missed after it."""
    return (
        report.cause is ReadCause.FORK
        and held.witnessed is not None
        and (report.install_id, report.boot_id) == held.writer
        and report.position < held.witnessed
    )


def _with_promised(held: Suspicion, record: ChainRecord, report: ChainReport) -> Suspicion:
    """The doubt, and what was promised before the copy was taken and is not read either."""
    newest, head = report.head.seq if report.head else 0, record.head
    others = with_marks(held.others, (mark for mark in record.marks if mark.seq > newest))
    if head is None or head.seq <= held.target.seq:
        return structs.replace(held, others=others)
    others = with_marks(others, (held.target,))
    return structs.replace(held, target=head, others=others, target_written_at=record.written_at)


def _adopted(record: ChainRecord, report: ChainReport, at: float, *, whatever: bool = False) -> ChainRecord:
    """Take what was read for what is: when it is newer than what is known, or `whatever` it is."""
    if overtaken(record, report):
        return record
    head = report.head
    known = record.head
    record = structs.replace(record, marks=with_marks(_up_to(record, head, whatever), _named(report)))
    if head is None and whatever:
        # Nothing of it is whole, and what is promised from now on begins anew.
        return structs.replace(
            record, head=None, written_at=0.0, clean_stop=False, metadata_seq=report.metadata_seq
        )
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
    newest = report.head.seq if report.head else 0
    below = newest < target.seq
    suspicion = Suspicion(
        kind=kind,
        at=at,
        position=report.position,
        target=target,
        others=tuple(mark for mark in record.marks if newest < mark.seq < target.seq),
        target_written_at=record.written_at,
        survived_seq=newest if below else common(record, report),
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


def writer_of(report: ChainReport) -> Writer:
    """Who reads, on which machine and volume."""
    return Writer(
        install_id=report.install_id,
        boot_id=report.boot_id,
        epoch=report.epoch,
        mono=report.mono,
        instance_id=report.machine.instance_id,
        machine_id=report.machine.machine_id,
        host=report.machine.host,
        filesystem_id=report.identity.filesystem_id,
        device_id=report.identity.device_id,
        mount_id=report.identity.mount_id,
        mount_root=report.identity.mount_root,
    )


def _introduced(writer: Writer, report: ChainReport) -> Writer:
    """The writer with what it said of itself in a read that its first records overtook."""
    if writer.instance_id or writer.filesystem_id or writer.boot_id != report.boot_id:
        return writer
    return structs.replace(writer_of(report), epoch=writer.epoch, mono=writer.mono)


def _interior(report: ChainReport) -> tuple[int, ...]:
    head = report.head.seq if report.head else 0
    return tuple(seq for seq in report.broken if seq < head)


def _damage(
    record: ChainRecord, heard: Heard, report: ChainReport, at: float
) -> tuple[tuple[Breach, ...], tuple[int, ...]]:
    """What is to be told of damaged records now, and of which somebody was told by then.

    Two reads in a row must have found them damaged: a misread is no damage. What one event took and damaged is one loss,
    whose evidence names the damaged; while that is in doubt, nothing is told.
    """
    interior = _interior(report)
    told = tuple(seq for seq in record.damage_told if seq in interior)
    again = sorted(set(interior) & set(record.broken) - set(told))
    held = heard.record.suspicion
    in_doubt = held is not None and held.kind is not BreachKind.METADATA
    open_ = any(one.kind is BreachKind.CORRUPT and one.open for one in record.breaches)
    if not again or in_doubt or open_:
        return (), told
    told = (*told, *again)
    if any(one.kind in LOSSES and one.kind is not BreachKind.METADATA for one in heard.breaches):
        return (), told
    words = corruption_words(record, again)
    return (Breach(kind=BreachKind.CORRUPT, at=at, records=len(again), evidence=words),), told


def _returned(breaches: tuple[Breach, ...], at: float) -> tuple[Breach, ...]:
    """A chain that was missed and is here again is missed no more."""
    return tuple(
        structs.replace(one, acknowledged_at=at, reason="found again")
        if one.kind is BreachKind.DELETED and one.open
        else one
        for one in breaches
    )
