"""A chain hears that it is not where it should be, after that was compared (`comparison.py`)."""

from msgspec import structs

from holdfast_collector.core.chain import (
    Breach,
    BreachKind,
    ChainRecord,
    ChainState,
    Missed,
    Suspicion,
    with_breach,
)
from holdfast_collector.core.comparison import Case, Conclusion, Row
from holdfast_collector.core.exhibit import deleted_words
from holdfast_collector.core.heard import Heard, breach_of
from holdfast_wire import ChainReport


def hear_absence(case: Case, row: Row, at: float, announced: str) -> Heard:
    """The chain that should have been found, after `row` was concluded of it."""
    heard, report = _concluded(case, row, at, announced), case.report
    if row.conclusion in {Conclusion.UNREADABLE, Conclusion.STALE}:
        return heard
    before = case.known.missed_by
    deleted = row.conclusion is Conclusion.DELETED or (before is not None and before.deleted)
    missed_by = Missed(report.install_id, report.boot_id, report.position, deleted)
    return structs.replace(heard, record=structs.replace(heard.record, missed_by=missed_by))


def _concluded(case: Case, row: Row, at: float, announced: str) -> Heard:
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
    breach = breach_of(held, at, announced, record.volume)
    after = structs.replace(with_breach(record, breach), state=ChainState.ENDED, suspicion=None)
    return Heard(
        record=after, breaches=(breach,), conclusion=Conclusion(breach.kind.value), words=breach.evidence
    )


def _deleted(record: ChainRecord, report: ChainReport, at: float) -> Heard:
    """A second chain ends the first; until then it may come back. Told once, also when an operator has taken note."""
    words = deleted_words(record, report)
    breaches: tuple[Breach, ...] = ()
    if record.missed_by is None or not record.missed_by.deleted:
        breaches = (Breach(kind=BreachKind.DELETED, at=at, evidence=words),)
        record = with_breach(record, breaches[0])
    if report.chain_id:
        record = structs.replace(record, state=ChainState.ENDED, suspicion=None)
    return Heard(record=record, breaches=breaches, conclusion=Conclusion.DELETED, words=words)
