"""What a chain that came back whole has been through: the strength of the proof (catalogue B-03).

A guest's reset never tests the caches of its host, so surviving a weaker event says nothing of a stronger one. On which
host a machine runs only some platforms tell. Where it is known to be another one, the run before decides: it ended
without a shutdown, then what the old host had not written is gone; else the machine was moved, which an orderly host
does after it wrote everything. Two things look alike here: a host that crashed, and a machine that an operator cut off
there and started elsewhere.
"""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import structs

from holdfast_collector.core.chain import ChainRecord, ChainState, Survived
from holdfast_wire import ChainReport, ReadCause


class EventClass(StrEnum):
    """What can happen to a volume, weakest first."""

    AGENT_RESTART = "agent_restart"
    REMOUNT = "remount"
    CLEAN_REBOOT = "clean_reboot"
    GUEST_CRASH = "guest_crash"
    HOST_MOVE = "host_move"
    HOST_CRASH = "host_crash"


STRENGTH = {event: strength for strength, event in enumerate(EventClass)}
TESTED = frozenset({EventClass.GUEST_CRASH, EventClass.HOST_CRASH})
"""Events that test what a volume does with data that was only just flushed. A move is prepared: it tests only whether the
data outlives the host."""


def event_class(record: ChainRecord, report: ChainReport) -> EventClass | None:
    """What lies between a chain's newest record and this read of it; None when nothing did.

    How the previous run ended counts only when something says so. Not known is taken for the weaker event: a crash that
    nobody saw tests nothing.
    """
    writer, identity = record.writer, report.identity
    moved = changed(writer.host, report.machine.host)
    if report.boot_id != writer.boot_id:
        if changed(writer.instance_id, report.machine.instance_id):
            return EventClass.HOST_MOVE
        if moved:
            return EventClass.HOST_CRASH if report.previous_boot == "dirty" else EventClass.HOST_MOVE
        return EventClass.GUEST_CRASH if report.previous_boot == "dirty" else EventClass.CLEAN_REBOOT
    if moved:
        return EventClass.HOST_MOVE
    if report.cause is ReadCause.MOUNT or (
        identity.mount_id and writer.mount_id and identity.mount_id != writer.mount_id
    ):
        return EventClass.REMOUNT
    return EventClass.AGENT_RESTART if report.epoch != writer.epoch else None


def changed(before: str, after: str) -> bool:
    """Whether an identity is known to be another one. What is not said is not known."""
    return bool(before and after and before != after and not _one_uuid(before, after))


def _one_uuid(before: str, after: str) -> bool:
    """Whether they are one UUID, told in either byte order.

    SMBIOS before 2.6 and since differ in the order of the first three groups, so the same machine's `product_uuid`
    reads otherwise when its host's firmware is renewed (drivers/firmware/dmi_scan.c dmi_save_uuid).
    """
    was, now = before.lower().split("-"), after.lower().split("-")
    return (
        [len(group) for group in was] == [8, 4, 4, 4, 12]
        and was[3:] == now[3:]
        and [_other_order(group) for group in was[:3]] == now[:3]
    )


def _other_order(group: str) -> str:
    """Its bytes from the last to the first: `02aab8a4` for `a4b8aa02`."""
    return "".join(group[place : place + 2] for place in range(len(group) - 2, -1, -2))


def survived(record: ChainRecord, event: str, at: float) -> ChainRecord:
    """The chain with one more event to its credit."""
    if not event:
        return record
    before = record.survived.get(event)
    credit = Survived(at, before.count + 1 if before else 1)
    return structs.replace(record, survived={**record.survived, event: credit})


def last_survived(records: Iterable[ChainRecord]) -> dict[str, float]:
    """Class of event → when a volume last came whole through one, by its chains. A frozen chain was written elsewhere too,
    and proves nothing of this volume."""
    newest: dict[str, float] = {}
    for record in records:
        if record.state is not ChainState.FROZEN:
            for event, credit in record.survived.items():
                newest[event] = max(newest.get(event, 0.0), credit.at)
    return newest


def tested_at(record: ChainRecord) -> float:
    """When a chain last came through a crash or worse; 0 when it never did."""
    return max((credit.at for event, credit in record.survived.items() if event in TESTED), default=0.0)
