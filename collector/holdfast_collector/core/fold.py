"""Messages into nodes: who may speak under a name, in which order what they say counts, and what it changes.

Order. Positions `(epoch, seq)` order the messages of one installation. A *report* counts when it is newer than the
newest so far, or when it comes from a boot never met before (a machine that was rolled back restarts at an older
position; its reports are never spooled, so an unknown boot is live, not late). A *durable* message counts whenever
its effect is not committed yet, however late it comes.

Identity. A durable message is one installation's position and the digest of its bytes. Same position, other bytes:
a twin. Its effect is taken too, since it may be the only witness of what happened on a cloned or rolled-back machine.

Claims. A name belongs to the installation that reports under it. Another one is refused, unacknowledged, until the
first has fallen silent or said goodbye: two machines are never merged into one.
"""

from enum import StrEnum

from msgspec import Struct, structs

from holdfast_collector.core.node import Node, ResourceKey
from holdfast_collector.core.record import EventCount, EventRow, NodeRecord
from holdfast_wire import Birth, ChainReport, Death, Position, Report, UpMessage

BOOTS_MAX = 64
"""Boot ids remembered per node. A late report from further back than that is taken for a rolled-back machine's."""
EVENT_RESOURCES_MAX = 4096
"""Resources per node that may exist by events alone; beyond that events are still logged, not counted."""


class Claim(StrEnum):
    """What to make of a message's sender."""

    HOLDER = "holder"
    SUCCESSOR = "successor"
    """Another installation, and the one before has left the name."""
    RIVAL = "rival"
    """Another installation, while the one before still reports."""


class Order(StrEnum):
    """What to make of a message's position."""

    NEWER = "newer"
    NEW_BOOT = "new_boot"
    """From a boot never met before, whatever its position."""
    SAME = "same"
    LATE = "late"
    RIVAL = "rival"
    """From another machine under the same installation, while the newest one reports."""


class Folded(Struct):
    """What a message changed."""

    touched: set[ResourceKey]
    """Resources whose facts may have changed."""
    observed: set[ResourceKey]
    """Resources that were observed anew, changed or not."""
    lacking: list[str]
    """Probes whose section the collector does not hold."""
    noted: list[tuple[str, str]]
    """(event, detail) for the log."""

    def add(self, other: "Folded") -> None:
        """Take in what else changed with the same message."""
        self.touched |= other.touched
        self.observed |= other.observed
        self.lacking.extend(other.lacking)
        self.noted.extend(other.noted)


def first_record(message: UpMessage, at: float) -> NodeRecord:
    """The record of a node met for the first time."""
    return NodeRecord(
        node=message.node,
        install_id=message.install_id,
        boot_id=message.boot_id,
        position=Position(message.epoch, 0),
        session_since=at,
        first_seen_at=at,
        boots=(message.boot_id,),
    )


def claim(node: Node, message: UpMessage, at: float, *, warm: bool) -> Claim:
    """Whose name it is. While the collector warms up nobody is known to be silent, so nobody is succeeded."""
    if message.install_id == node.record.install_id:
        return Claim.HOLDER
    left = node.record.session != "connected" or node.reporting is False
    return Claim.SUCCESSOR if left and (warm or node.record.session != "connected") else Claim.RIVAL


def order(node: Node, message: UpMessage) -> Order:
    """Where a message of the name's holder stands among those that counted."""
    newest = node.position
    if message.boot_id != node.record.boot_id:
        if message.boot_id not in node.record.boots:
            return Order.NEW_BOOT
        if message.epoch <= newest.epoch:
            return Order.LATE
    if message.epoch == newest.epoch:
        if message.seq == newest.seq:
            return Order.SAME
        return Order.NEWER if message.seq > newest.seq else Order.LATE
    return Order.NEWER if message.epoch > newest.epoch else Order.LATE


def _newest(
    node: Node,
    message: Birth | Report,
    at: float,
    noted: list[tuple[str, str]],
    connection: int,
    floor: Position,
) -> None:
    """Make `message` the newest of its node. Its record stays as it is when nothing but the position moves."""
    record, before = node.record, node.position
    node.position = message.position
    if message.position < before:
        detail = f"from {before.epoch}.{before.seq} to {message.epoch}.{message.seq}"
        noted.append(("node position went back", detail))
    elif floor < record.floor:
        floor = record.floor
    if (
        message.boot_id == record.boot_id
        and connection == record.connection
        and floor == record.floor
        and message.interval_seconds == record.interval_seconds
        and record.session == "connected"
    ):
        return
    boots, session_since = record.boots, record.session_since
    if message.boot_id != record.boot_id:
        noted.append(("node booted", f"boot {message.boot_id}"))
        boots = (*(boot for boot in boots if boot != message.boot_id), message.boot_id)[-BOOTS_MAX:]
    if record.session != "connected":
        noted.append(("node connected", f"it was {record.session}"))
        session_since = at
    node.record = structs.replace(
        record,
        boot_id=message.boot_id,
        boots=boots,
        connection=connection,
        floor=floor,
        interval_seconds=message.interval_seconds,
        session="connected",
        session_since=session_since,
    )


def fold_birth(node: Node, birth: Birth, at: float) -> Folded:
    """An agent started. One that started before the newest message known is history: on record, not in force."""
    noted: list[tuple[str, str]] = []
    record = node.record
    if birth.epoch < node.position.epoch:
        return Folded(set(), set(), [], [("late birth taken", f"epoch {birth.epoch}")])
    noted.append(("agent started", f"epoch {birth.epoch}, previous stop {birth.previous_stop}"))
    touched: set[ResourceKey] = {("node", node.name)}
    if birth.position > node.position:
        # A report of the same run may have come first, and what it said stands.
        if birth.boot_id != record.boot_id or record.birth is None:
            for probe in list(node.sections):
                touched |= node.drop(probe)
        # The connections of an epoch count from one, so a new epoch's first will must not look outdated.
        same_epoch = birth.epoch == node.position.epoch
        _newest(node, birth, at, noted, record.connection if same_epoch else 0, Position(0, 0))
    node.spool = birth.spool
    node.record = structs.replace(node.record, birth=birth)
    return Folded(touched, set(), [], noted)


def fold_copy(node: Node, message: ChainReport) -> None:
    """The machine goes on from a copy of its memory: it counts from the message's position again."""
    if message.boot_id == node.record.boot_id and message.position < node.position:
        node.position = message.position
        node.record = structs.replace(node.record, floor=min(node.record.floor, message.position))


def fold_report(node: Node, report: Report, at: float) -> Folded:
    """The node as it is now. The caller has checked the order."""
    noted: list[tuple[str, str]] = []
    touched: set[ResourceKey] = set()
    observed: set[ResourceKey] = set()
    if report.boot_id != node.record.boot_id:
        for probe in list(node.sections):
            touched |= node.drop(probe)
    if node.reporting is not True or node.record.session != "connected" or node.spool != report.spool:
        touched.add(("node", node.name))
    _newest(node, report, at, noted, report.connection, report.floor)
    node.spool = report.spool
    node.last_report_at = at
    node.reporting = True
    for section in report.sections:
        mark = report.marks.get(section.probe)
        if mark is not None:
            age = max(0.0, report.mono - section.mono)
            touched |= node.hold(section, mark.digest, at - age)
    lacking = _fold_marks(node, report, at, touched, observed)
    node.unheld = frozenset(probe for probe in lacking if probe not in node.sections)
    for probe in node.sections.keys() - report.marks.keys():
        touched |= node.drop(probe)
    return Folded(touched, observed, lacking, noted)


def _fold_marks(
    node: Node, report: Report, at: float, touched: set[ResourceKey], observed: set[ResourceKey]
) -> list[str]:
    """Renew what is held under the same digest; list what is not held."""
    lacking = []
    for probe, mark in report.marks.items():
        held = node.sections.get(probe)
        if held is None or held.digest != mark.digest:
            lacking.append(probe)
            continue
        held.observed_at = max(held.observed_at, at - max(0.0, report.mono - mark.mono))
        held.duration_seconds = mark.duration_seconds
        if held.stale and held.stale_at > at:
            held.stale = False
            touched |= held.stated.keys() | {("probe", probe)}
        if not held.stale:
            observed |= held.stated.keys()
            for key in held.stated:
                node.observed[key] = held.observed_at
    return lacking


def fold_event(node: Node, event: EventRow) -> Folded:
    """Count one event on its resource."""
    key = (event.resource_kind, event.resource)
    counts = node.counts.get(key)
    if counts is None:
        if len(node.counts) >= EVENT_RESOURCES_MAX:
            return Folded(set(), set(), [], [("event not counted", "too many resources by events alone")])
        counts = node.counts[key] = {}
    before = counts.get(event.type)
    counts[event.type] = EventCount(
        node=node.name,
        resource_kind=key[0],
        resource=key[1],
        type=event.type,
        total=before.total + 1 if before else 1,
        last_at=event.received_at,
        last=event.summary,
    )
    return Folded({key}, {key}, [], [])


def fold_death(node: Node, death: Death, at: float) -> Folded | None:
    """The end of the newest session; None when it is of an older one."""
    record = node.record
    newest = (node.position.epoch, record.connection)
    if death.boot_id != record.boot_id or (death.epoch, death.connection) < newest:
        return None
    node.record = structs.replace(record, session=death.reason.value, session_since=at)
    node.reporting = False
    return Folded({("node", node.name)}, set(), [], [(f"node {death.reason.value}", f"epoch {death.epoch}")])
