"""What a read of a volume's chain means: the outcome table of the durability catalogue, section E3.

Two tables, each read from the top; the first row whose condition holds is the conclusion.

`ABSENT`   a chain that the collector knows of this volume is not what was found there
`PRESENT`  the chain that was found, against what is known of it

Beside the conclusion a read may show more: `beside`. Nothing here convicts: a conclusion marked `loss` needs a second,
independent read (`testimony.py`). What a row does not say is unknown, and unknown is never good.
"""

from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from holdfast_collector.core.chain import (
    BreachKind,
    ChainRecord,
    ChainState,
    Found,
    common,
    differing,
    found,
    overtaken,
)
from holdfast_collector.core.survival import changed
from holdfast_wire import ChainReport, ReadCause


class Conclusion(StrEnum):
    """What a read means for one chain."""

    UNREADABLE = "unreadable"
    STALE = "stale"
    MOUNT_MISSING = "mount_missing"
    WRONG_DISK = "wrong_disk"
    SWAPPED = "swapped"
    RESET = "reset"
    REFORMATTED = "reformatted"
    LEFT_BEHIND = "left_behind"
    """By an installation of the agent that was replaced."""
    DELETED = "deleted"
    NEW = "new"
    FOREIGN = "foreign"
    CLOSED = "closed"
    FORK = "fork"
    BEHIND = "behind"
    TORN = "torn"
    MEMORY_ROLLBACK = "memory_rollback"
    RESTORED = "restored"
    ROLLED_BACK = "rolled_back"
    LOST_TAIL = "lost_tail"
    METADATA = "metadata"
    SURVIVED = "survived"
    ADOPTED = "adopted"


class Beside(StrEnum):
    """What a read shows besides its conclusion."""

    TORN_IN_FLIGHT = "torn_in_flight"
    CORRUPT = "corrupt"
    CACHE_DIFFERS = "cache_differs"
    MOVED = "moved"
    """It is on another volume now, which had none."""
    REINSTALLED = "reinstalled"


class Severity(StrEnum):
    """How much it matters, in the words of rules."""

    PAGE = "page"
    TICKET = "ticket"
    INFO = "info"


class Case(Struct, frozen=True, kw_only=True):
    """One read against one chain."""

    report: ChainReport
    chain: ChainRecord | None
    """What is known of the chain in question: the one that was found, or the one that was not."""
    foreign: str = ""
    """The other machine that the found chain belongs to, in words; empty when it is this node's."""
    elsewhere: str = ""
    """The volume of this node that the found chain belongs to, when it is another one."""
    occupied: bool = False
    """The volume where the chain was found has another chain, which is not there."""
    alive_beside: bool = False
    """The writer of the chain and the sender of the report lived at the same time."""
    stale: bool = False
    """Something newer was compared already."""
    temporary: bool = False
    """The volume claims no more than to survive a reboot."""
    restored_collector: bool = False
    """The collector was restored since it last heard of the chain: what it remembers may be outdated."""

    @property
    def known(self) -> ChainRecord:
        """The chain, where a row has made sure that there is one."""
        assert self.chain is not None, "rows above this one take what is not known"
        return self.chain

    @property
    def filesystem_changed(self) -> bool:
        return changed(self.known.writer.filesystem_id, self.report.identity.filesystem_id)

    @property
    def same_boot(self) -> bool:
        return self.report.boot_id == self.known.writer.boot_id

    @property
    def another_machine(self) -> bool:
        """Another instance, or the same file on another filesystem: made from a copy."""
        return (
            changed(self.known.writer.instance_id, self.report.machine.instance_id) or self.filesystem_changed
        )

    @property
    def clean(self) -> bool:
        """Nothing was cut off: something says that the machine, or the agent before it, stopped in order."""
        if self.report.previous_boot == "unknown":
            return self.known.clean_stop or self.report.clean_stop
        return self.report.previous_boot == "clean"

    @property
    def memory_went_back(self) -> bool:
        forked = self.report.cause is ReadCause.FORK
        return self.same_boot and (forked or self.report.mono < self.known.writer.mono - 1.0)

    @property
    def promised_found(self) -> Found:
        """What the read says of the newest promised record."""
        target = self.known.target
        return found(self.report, target) if target is not None else Found.UNKNOWN

    @property
    def rewritten(self) -> bool:
        """A known record has another content now, and no shortage that was admitted explains it."""
        if self.restored_collector:
            return False
        other = self.promised_found is Found.OTHER and self.known.suspicion is None
        return other or differing(self.known, self.report) > 0

    @property
    def behind(self) -> bool:
        """The machine holds an acknowledgement of a record that the collector never heard of."""
        return self.report.acknowledged_seq > self.known.told_seq

    @property
    def short(self) -> bool:
        """A promised record did not come back."""
        if self.restored_collector:
            return False
        held = self.known.suspicion
        others = (found(self.report, other) for other in held.others) if held is not None else ()
        return any(one in _LACKING for one in (self.promised_found, *others))

    @property
    def torn(self) -> bool:
        """The place of a promised record was touched and is not whole."""
        promised, head = self.known.target, self.report.head
        if promised is None:
            return False
        after = head.seq if head else 0
        return 0 < self.report.torn_seq <= promised.seq or any(
            after < seq <= promised.seq for seq in self.report.broken
        )

    @property
    def metadata_short(self) -> bool:
        return (
            self.promised_found is Found.SAME
            and self.report.metadata_seq < self.known.metadata_seq
            and not self.restored_collector
            # What was renamed since then it cannot show.
            and not overtaken(self.known, self.report)
        )


_LACKING = frozenset({Found.BEYOND, Found.ABSENT, Found.OTHER})


class Row(Struct, frozen=True):
    """One outcome."""

    conclusion: Conclusion
    severity: Severity
    when: Callable[[Case], bool]
    loss: BreachKind | None = None
    """What it is called once a second read agrees."""


def _always(case: Case) -> bool:
    return True


_UNREADABLE = Row(Conclusion.UNREADABLE, Severity.INFO, lambda case: bool(case.report.read_error))
_STALE = Row(Conclusion.STALE, Severity.INFO, lambda case: case.stale)

ABSENT: tuple[Row, ...] = (
    _UNREADABLE,
    _STALE,
    Row(Conclusion.MOUNT_MISSING, Severity.PAGE, lambda case: not case.report.mounted),
    Row(Conclusion.SWAPPED, Severity.PAGE, lambda case: bool(case.elsewhere)),
    Row(Conclusion.WRONG_DISK, Severity.PAGE, lambda case: bool(case.foreign)),
    Row(Conclusion.RESET, Severity.INFO, lambda case: case.filesystem_changed and case.temporary),
    Row(
        Conclusion.REFORMATTED,
        Severity.PAGE,
        lambda case: case.filesystem_changed,
        BreachKind.REFORMATTED,
    ),
    Row(
        Conclusion.LEFT_BEHIND,
        Severity.INFO,
        lambda case: case.known.owner != case.report.install_id,
    ),
    Row(Conclusion.DELETED, Severity.TICKET, _always),
)
"""For a chain that should be on the volume and is not what was found there."""

PRESENT: tuple[Row, ...] = (
    _UNREADABLE,
    _STALE,
    Row(Conclusion.FOREIGN, Severity.TICKET, lambda case: bool(case.foreign)),
    Row(Conclusion.NEW, Severity.INFO, lambda case: case.chain is None),
    Row(Conclusion.CLOSED, Severity.INFO, lambda case: case.known.state is not ChainState.OPEN),
    Row(Conclusion.FORK, Severity.PAGE, lambda case: case.alive_beside or case.rewritten),
    Row(Conclusion.SWAPPED, Severity.PAGE, lambda case: bool(case.elsewhere) and case.occupied),
    Row(Conclusion.BEHIND, Severity.PAGE, lambda case: case.behind),
    Row(Conclusion.TORN, Severity.PAGE, lambda case: case.short and case.torn, BreachKind.TORN),
    Row(
        Conclusion.MEMORY_ROLLBACK,
        Severity.PAGE,
        lambda case: case.short and case.memory_went_back,
        BreachKind.MEMORY_ROLLBACK,
    ),
    Row(
        Conclusion.RESTORED,
        Severity.PAGE,
        lambda case: case.short and case.another_machine,
        BreachKind.RESTORED,
    ),
    Row(
        Conclusion.ROLLED_BACK,
        Severity.PAGE,
        lambda case: case.short and (case.same_boot or case.clean),
        BreachKind.ROLLED_BACK,
    ),
    Row(Conclusion.LOST_TAIL, Severity.PAGE, lambda case: case.short, BreachKind.LOST_TAIL),
    Row(Conclusion.METADATA, Severity.PAGE, lambda case: case.metadata_short, BreachKind.METADATA),
    Row(Conclusion.SURVIVED, Severity.INFO, lambda case: common(case.known, case.report) > 0),
    Row(Conclusion.ADOPTED, Severity.INFO, _always),
)
"""For the chain that was found."""


def compare(case: Case, table: tuple[Row, ...]) -> Row:
    """The first row that holds. Every table ends in one that always does."""
    return next(row for row in table if row.when(case))


def shortage_kind(case: Case) -> BreachKind:
    """What a shortage at this read is called, whether or not there is one: for promises that arrive late."""
    if case.memory_went_back:
        return BreachKind.MEMORY_ROLLBACK
    if case.another_machine:
        return BreachKind.RESTORED
    return BreachKind.ROLLED_BACK if case.same_boot or case.clean else BreachKind.LOST_TAIL


def beside(case: Case) -> frozenset[Beside]:
    """What a read of a known chain shows besides its conclusion."""
    report = case.report
    head = report.head.seq if report.head else 0
    promised = case.known.promised
    shown = {
        Beside.TORN_IN_FLIGHT: report.torn_seq > max(head, promised.seq if promised else 0),
        Beside.CORRUPT: any(seq < head for seq in report.broken),
        Beside.CACHE_DIFFERS: report.cache_differs,
        Beside.MOVED: bool(case.elsewhere) and not case.occupied,
        Beside.REINSTALLED: report.install_id != case.known.writer.install_id,
    }
    return frozenset(name for name, holds in shown.items() if holds)
