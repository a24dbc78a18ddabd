"""What the collector remembers of a chain: the newest record a volume promised to keep, and what became of it.

The head is the high-water mark W of the catalogue's section E: the newest record whose witness is committed here. A few
hashes behind it tell one line of a chain from another that shares its beginning. What a chain broke of its promise is a
breach, which stays until an operator takes note of it; what one read alone says is a suspicion.
"""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct, field, structs

from holdfast_wire import ChainHead, ChainReport, Position, ReadCause
from holdfast_wire.message import RECENT_RECORDS, SPARSE_RECORDS

RING_RECORDS = 2048
"""Records a volume's ring holds; what lies further back than that cannot be compared."""
MARK_DIGITS = 16
"""Of a hash, where many are kept: no chance of two lines agreeing, and a quarter of the room."""
BREACHES_MAX = 16
"""Kept per chain. The oldest that are acknowledged go first."""
READS_MAX = 2
"""Newest reads remembered: as many as a conviction needs."""


class ChainState(StrEnum):
    """Whether a chain may still be written."""

    OPEN = "open"
    FROZEN = "frozen"
    """Two machines wrote it, or it is another machine's: evidence now."""
    ENDED = "ended"
    """Its volume has another chain, or is gone for good."""


class BreachKind(StrEnum):
    """What a chain broke of its promise."""

    LOST_TAIL = "lost_tail"
    ROLLED_BACK = "rolled_back"
    RESTORED = "restored"
    MEMORY_ROLLBACK = "memory_rollback"
    TORN = "torn"
    REFORMATTED = "reformatted"
    METADATA = "metadata"
    FORK = "fork"
    CORRUPT = "corrupt"
    DELETED = "deleted"


LOSSES = frozenset(BreachKind) - {BreachKind.FORK, BreachKind.CORRUPT, BreachKind.DELETED}
"""Breaches that mean that data which was promised is gone."""


class Breach(Struct, frozen=True, kw_only=True):
    """One broken promise, with what shows it."""

    kind: BreachKind
    at: float
    """When it was established, collector's clock."""
    records: int = 0
    """Confirmed records that are gone."""
    seconds: float = 0.0
    """How much time they span, by the clock of the machine that wrote them: the data loss window."""
    evidence: str
    acknowledged_at: float = 0.0
    reason: str = ""
    """Of the operator, or of the announcement."""
    announced: bool = False
    """It fell into an announced restore: the number is on record, nobody is called."""

    @property
    def open(self) -> bool:
        return not self.acknowledged_at


class Suspicion(Struct, frozen=True, kw_only=True):
    """What one read said, waiting for a second one."""

    kind: BreachKind
    at: float
    position: Position
    """Of the report that said so."""
    target: ChainHead
    """The newest record that was promised and did not come back."""
    others: tuple[ChainHead, ...] = ()
    """Further known ones beyond what the read found. The target may be a copy's own, written since it was taken."""
    witnessed: Position | None = None
    """Of the target's witness, when that came after the read which lacks it."""
    target_written_at: float
    survived_seq: int
    survived_written_at: float
    event: str = ""
    """The event class that is survived, should the second read find everything."""
    writer: tuple[str, str] = ("", "")
    """(install_id, boot_id) that wrote the target. Should it still live, nothing was lost: there are two machines."""
    announced: str = ""
    """Reason of the restore that was under way."""
    evidence: str


class Writer(Struct, frozen=True, kw_only=True):
    """Who wrote a chain last, and where."""

    install_id: str
    boot_id: str
    epoch: int = 0
    mono: float = 0.0
    """Of its newest message, on its boot-time clock."""
    instance_id: str = ""
    machine_id: str = ""
    host: str = ""
    """Digest of the host it ran on."""
    filesystem_id: str = ""
    device_id: str = ""
    mount_id: int = 0
    mount_root: str = "/"


class Read(Struct, frozen=True, kw_only=True):
    """One read of a chain from its medium, as it was compared."""

    position: Position
    install_id: str
    boot_id: str
    at: float
    """When it was made, collector's clock."""
    seq: int
    """The newest whole record; 0: none."""
    written_at: float
    kind: BreachKind
    """What a shortage at this read is called."""
    fork: bool = False
    """Of a copy of the machine's memory, which counts its messages from where it was taken."""


class Missed(Struct, frozen=True, array_like=True):
    """A read that did not find the chain."""

    install_id: str
    boot_id: str
    position: Position
    deleted: bool
    """It, or one before it since the chain was found last, found nothing in its place that explains it."""


class Survived(Struct, frozen=True, array_like=True):
    """How often a chain came through a class of event, and when last."""

    at: float
    count: int


class ChainRecord(Struct, frozen=True, kw_only=True):
    """One chain of one node."""

    node: str
    chain_id: str
    volume: str
    """The volume it belongs to, by its mountpoint."""
    owner: str
    """The install_id it was begun by."""
    state: ChainState = ChainState.OPEN
    began_at: float
    """When the collector first knew it."""
    head: ChainHead | None = None
    head_at: float = 0.0
    """When the head's witness was received."""
    head_position: Position = Position(0, 0)
    """Of the head's witness among its writer's messages."""
    told_seq: int = 0
    """The newest record that the collector acknowledged, ever: what the machine holds against it."""
    written_at: float = 0.0
    """Wall clock of the head, by the machine."""
    clean_stop: bool = False
    """The head is the last record of an orderly stop."""
    fsync_seconds: float = 0.0
    marks: tuple[ChainHead, ...] = ()
    """Known records, oldest first, by 16 digits: the newest 64, and every 64th of a ring's length."""
    writer: Writer
    found_on: str = ""
    """Another volume where it was read last; empty while it is where it belongs."""
    missing: str = ""
    """`mount_missing` or `wrong_disk`, while that is so."""
    temporary: bool = False
    """The volume claimed no more than to survive a reboot, when somebody last said."""
    missed_by: Missed | None = None
    """The newest read that did not find it, since it was found last."""
    suspicion: Suspicion | None = None
    broken: tuple[int, ...] = ()
    """Records in the middle of the chain that the newest read found damaged."""
    damage_told: tuple[int, ...] = ()
    """Those of them that somebody was told of already."""
    cache_differs: bool = False
    excused: str = ""
    """The value of `missing` that an operator took note of."""
    foreign: str = ""
    """Whose chain it is, in words, when it is another machine's."""
    breaches: tuple[Breach, ...] = ()
    survived: dict[str, Survived] = field(default_factory=dict)
    metadata_seq: int = 0
    reads: tuple[Read, ...] = ()
    """The newest last."""
    read_mode: str = ""
    behind_at: float = 0.0
    """When its volume proved that the collector had forgotten some of it."""
    behind_excused: bool = False
    """An operator took note of that."""

    @property
    def target(self) -> ChainHead | None:
        """The record that the next read must show: the one under suspicion, or the head."""
        held = self.suspicion
        return self.head if held is None or held.kind is BreachKind.METADATA else held.target

    @property
    def promised(self) -> ChainHead | None:
        """The newest record that anybody was told of."""
        suspicion = self.suspicion
        if suspicion is not None and (self.head is None or suspicion.target.seq >= self.head.seq):
            return suspicion.target
        return self.head

    @property
    def awaits_second_read(self) -> bool:
        """The newest read shows what one read alone does not tell."""
        told = any(breach.kind is BreachKind.CORRUPT and breach.open for breach in self.breaches)
        damaged = (
            self.state is ChainState.OPEN and not told and bool(set(self.broken) - set(self.damage_told))
        )
        return self.suspicion is not None or damaged

    @property
    def losses(self) -> tuple[Breach, ...]:
        """The breaches that mean lost data."""
        return tuple(breach for breach in self.breaches if breach.kind in LOSSES)

    def mark(self, seq: int) -> str:
        """The 16 digits of a known record; empty when it is not known."""
        return next((mark.hash for mark in reversed(self.marks) if mark.seq == seq), "")


class Found(StrEnum):
    """What a read says of one promised record."""

    SAME = "same"
    OTHER = "other"
    """Its number carries another content."""
    ABSENT = "absent"
    """The read lists its neighbours and not it."""
    BEYOND = "beyond"
    """The newest record read is older."""
    UNKNOWN = "unknown"
    """The read does not speak of it: overwritten since, or between the listed ones."""


def short(hash_: str) -> str:
    """A hash as it is kept among many."""
    return hash_[:MARK_DIGITS]


def listed(report: ChainReport) -> dict[int, str]:
    """seq → 16 digits of all records a read names."""
    named = {one.seq: short(one.hash) for one in report.hashes}
    if report.head is not None:
        named[report.head.seq] = short(report.head.hash)
    return named


def found(report: ChainReport, target: ChainHead) -> Found:
    """What a read says of `target`."""
    if report.head is None or target.seq > report.head.seq:
        return Found.BEYOND
    named = listed(report)
    if target.seq in named:
        return Found.SAME if named[target.seq] == short(target.hash) else Found.OTHER
    if target.seq in report.broken:
        return Found.ABSENT
    if not report.hashes or target.seq < report.oldest_seq:
        return Found.UNKNOWN
    numbers = sorted(named)
    complete = report.oldest_seq if len(numbers) < RECENT_RECORDS else numbers[-RECENT_RECORDS]
    expected = target.seq >= complete or target.seq % SPARSE_RECORDS == 0
    return Found.ABSENT if expected else Found.UNKNOWN


def differing(record: ChainRecord, report: ChainReport) -> int:
    """The oldest record on which memory and medium disagree; 0 when there is none."""
    named = listed(report)
    return next((mark.seq for mark in record.marks if named.get(mark.seq, mark.hash) != mark.hash), 0)


def overtaken(record: ChainRecord, report: ChainReport) -> bool:
    """Whether the head was written after this read, by the same boot. A copy of its memory counts anew."""
    writer = record.writer
    same = (report.install_id, report.boot_id) == (writer.install_id, writer.boot_id)
    recounts = report.cause is ReadCause.FORK and report.chain_id == record.chain_id
    return same and report.position < record.head_position and not recounts


def common(record: ChainRecord, report: ChainReport) -> int:
    """The newest record on which memory and medium agree; 0 when there is none."""
    named = listed(report)
    return next((mark.seq for mark in reversed(record.marks) if named.get(mark.seq) == mark.hash), 0)


def with_marks(marks: Iterable[ChainHead], more: Iterable[ChainHead]) -> tuple[ChainHead, ...]:
    """Known records and new ones, thinned to what is worth keeping."""
    merged = {mark.seq: mark for mark in marks}
    merged.update((one.seq, ChainHead(one.seq, short(one.hash))) for one in more if one.seq)
    numbers = sorted(merged)
    if len(numbers) <= RECENT_RECORDS:
        return tuple(merged[seq] for seq in numbers)
    oldest, recent = numbers[-1] - RING_RECORDS, numbers[-RECENT_RECORDS]
    return tuple(
        merged[seq] for seq in numbers if seq >= recent or (seq > oldest and seq % SPARSE_RECORDS == 0)
    )


def with_breach(record: ChainRecord, breach: Breach) -> ChainRecord:
    """The chain with one more broken promise on its list."""
    breaches = (*record.breaches, breach)
    while len(breaches) > BREACHES_MAX:
        settled = next((one for one in breaches if not one.open), breaches[0])
        breaches = tuple(one for one in breaches if one is not settled)
    return structs.replace(record, breaches=breaches)


def with_read(record: ChainRecord, read: Read) -> tuple[Read, ...]:
    """The chain's newest reads, this one included."""
    return (*record.reads, read)[-READS_MAX:]
