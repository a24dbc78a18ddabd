"""The outcome table of reads, cell by cell: what was known, what was found, and what that is called."""

from typing import Any

import pytest
from msgspec import structs

from holdfast_collector.core.chain import BreachKind, ChainRecord, ChainState, Suspicion, Writer, with_marks
from holdfast_collector.core.comparison import (
    ABSENT,
    PRESENT,
    Beside,
    Case,
    Conclusion,
    Severity,
    beside,
    compare,
    shortage_kind,
)
from holdfast_wire import ChainHead, ChainReport, Machine, Position, ReadCause, VolumeIdentity
from tests.collector.witnessed import CHAIN, digest

AT = 1_000_000.0


def head(seq: int, line: str = "a") -> ChainHead:
    return ChainHead(seq, digest(CHAIN, seq, line))


def known(newest: int = 100, **fields: Any) -> ChainRecord:
    """A chain whose records up to `newest` were witnessed by boot 1."""
    writer = Writer(
        install_id="i",
        boot_id="boot-1",
        epoch=1,
        mono=5000.0,
        instance_id="vm-1",
        filesystem_id="fs-1",
        mount_id=7,
    )
    record = ChainRecord(
        node="n1",
        chain_id=CHAIN,
        volume="/srv",
        owner="i",
        began_at=AT,
        head=head(newest) if newest else None,
        told_seq=newest,
        marks=with_marks((), [head(seq) for seq in range(1, newest + 1)]),
        writer=writer,
    )
    return structs.replace(record, **fields)


def report(newest: int = 100, *, line: str = "a", common: int = 10**6, **fields: Any) -> ChainReport:
    """What boot 2 reads: whole records up to `newest`, those after `common` of another line."""
    records = [head(seq, "a" if seq <= common else line) for seq in range(1, newest + 1)]
    named = [
        ChainHead(one.seq, one.hash[:16]) for one in records if one.seq > newest - 64 or one.seq % 64 == 0
    ]
    message = ChainReport(
        node="n1",
        install_id="i",
        boot_id="boot-2",
        epoch=2,
        seq=2,
        sent_at=AT,
        mono=20.0,
        identity=VolumeIdentity(volume="/srv", filesystem_id="fs-1", mount_id=9),
        machine=Machine(instance_id="vm-1"),
        cause=ReadCause.BOOT,
        chain_id=CHAIN,
        owner="i",
        head=records[-1] if records else None,
        hashes=named,
        oldest_seq=1,
        acknowledged_seq=0,
        previous_boot="dirty",
    )
    return structs.replace(message, **fields)


def identity(**fields: Any) -> VolumeIdentity:
    return structs.replace(VolumeIdentity(volume="/srv", filesystem_id="fs-1", mount_id=9), **fields)


SUSPICION = Suspicion(
    kind=BreachKind.LOST_TAIL,
    at=AT,
    position=Position(2, 1),
    target=head(100),
    target_written_at=AT,
    survived_seq=90,
    survived_written_at=AT - 600,
    evidence="",
)
SAME_BOOT: dict[str, Any] = {"boot_id": "boot-1", "epoch": 1, "mono": 6000.0, "previous_boot": "unknown"}
C = Conclusion
PRESENT_CELLS: list[tuple[str, dict[str, Any], ChainRecord | None, ChainReport, Conclusion]] = [
    ("whole after a crash", {}, known(), report(), C.SURVIVED),
    ("whole, and newer records nobody was told of", {}, known(), report(130), C.SURVIVED),
    ("the promise is long overwritten", {}, known(100), report(5000, hashes=[head(seq) for seq in range(4937, 5001)], oldest_seq=2953), C.ADOPTED),
    ("nothing was ever promised", {}, known(0), report(10), C.ADOPTED),
    ("nobody knows the chain", {}, None, report(10), C.NEW),
    ("nobody knows the chain, it is another machine's", {"foreign": "node n2"}, None, report(), C.FOREIGN),
    ("short after a crash", {}, known(), report(90), C.LOST_TAIL),
    ("short, and nobody knows how the run ended", {}, known(), report(90, previous_boot="unknown"), C.LOST_TAIL),
    ("short by everything", {}, known(), report(0), C.LOST_TAIL),
    ("short after an orderly reboot", {}, known(), report(90, previous_boot="clean"), C.ROLLED_BACK),
    ("short of an orderly stop's record", {}, known(clean_stop=True), report(90, previous_boot="unknown"), C.ROLLED_BACK),
    ("short, back at an earlier orderly stop", {}, known(), report(90, previous_boot="unknown", clean_stop=True), C.ROLLED_BACK),
    ("short without a reboot", {}, known(), report(90, **SAME_BOOT), C.ROLLED_BACK),
    ("short on another instance", {}, known(), report(90, machine=Machine(instance_id="vm-2")), C.RESTORED),
    ("short on another filesystem", {}, known(), report(90, identity=identity(filesystem_id="fs-2")), C.RESTORED),
    ("short after a memory fork", {}, known(), report(90, **SAME_BOOT, cause=ReadCause.FORK), C.MEMORY_ROLLBACK),
    ("short, and the boot's clock went back", {}, known(), report(90, **{**SAME_BOOT, "mono": 100.0}), C.MEMORY_ROLLBACK),
    ("the promise's own slot is torn", {}, known(), report(90, torn_seq=91), C.TORN),
    ("a promise after the newest is damaged", {}, known(), report(90, broken=[95]), C.TORN),
    ("a hole where the promise was", {}, known(), report(90, hashes=[head(seq) for seq in (89, 90)] + [ChainHead(101, "ff" * 8)], head=ChainHead(101, "ff" * 32)), C.LOST_TAIL),
    ("another content under a known number", {}, known(), report(100, line="b", common=95), C.FORK),
    ("another content below, and shorter", {}, known(), report(90, line="b", common=80), C.FORK),
    ("the writer lives beside", {"alive_beside": True}, known(), report(90), C.FORK),
    ("the writer lives beside, nothing short", {"alive_beside": True}, known(), report(), C.FORK),
    ("the numbers were written anew after the shortage was said", {}, known(90, suspicion=SUSPICION), report(100, line="b", common=90), C.LOST_TAIL),
    ("the second read finds everything", {}, known(90, suspicion=SUSPICION), report(100), C.SURVIVED),
    ("the second read is as short", {}, known(90, suspicion=SUSPICION), report(90), C.LOST_TAIL),
    ("an acknowledgement nobody gave", {}, known(), report(130, acknowledged_seq=120), C.BEHIND),
    ("an acknowledgement of what was given up since", {}, known(90, told_seq=100), report(95, acknowledged_seq=100), C.SURVIVED),
    ("short, but the collector was restored", {"restored_collector": True}, known(), report(90), C.SURVIVED),
    ("rewritten, but the collector was restored", {"restored_collector": True}, known(), report(100, line="b", common=95), C.SURVIVED),
    ("on another volume that had its own", {"elsewhere": "/var", "occupied": True}, known(volume="/var"), report(), C.SWAPPED),
    ("on another volume, and short", {"elsewhere": "/var", "occupied": True}, known(volume="/var"), report(90), C.SWAPPED),
    ("on another volume that had none", {"elsewhere": "/var"}, known(volume="/var"), report(), C.SURVIVED),
    ("the renamed file is older than promised", {}, known(metadata_seq=5), report(metadata_seq=4), C.METADATA),
    ("the renamed file is gone", {}, known(metadata_seq=5), report(metadata_seq=0), C.METADATA),
    ("the renamed file is newer", {}, known(metadata_seq=5), report(metadata_seq=6), C.SURVIVED),
    ("frozen", {}, known(state=ChainState.FROZEN), report(), C.CLOSED),
    ("frozen and short", {}, known(state=ChainState.FROZEN), report(10), C.CLOSED),
    ("not readable", {}, known(), report(0, read_error="EIO"), C.UNREADABLE),
    ("older than what was compared", {"stale": True}, known(), report(10), C.STALE),
]  # fmt: skip
ABSENT_CELLS: list[tuple[str, dict[str, Any], ChainReport, Conclusion]] = [
    ("the mountpoint is no mount", {}, report(0, mounted=False), C.MOUNT_MISSING),
    ("the mountpoint is no mount, and the parent's filesystem differs", {}, report(0, mounted=False, identity=identity(filesystem_id="fs-0")), C.MOUNT_MISSING),
    ("another volume's chain is there", {"elsewhere": "/var"}, report(), C.SWAPPED),
    ("another machine's chain is there", {"foreign": "node n2"}, report(), C.WRONG_DISK),
    ("another filesystem", {}, report(0, chain_id="", identity=identity(filesystem_id="fs-2")), C.REFORMATTED),
    ("another filesystem, temporary", {"temporary": True}, report(0, chain_id="", identity=identity(filesystem_id="fs-2")), C.RESET),
    ("the same filesystem", {}, report(0, chain_id=""), C.DELETED),
    ("the same filesystem, temporary", {"temporary": True}, report(0, chain_id=""), C.DELETED),
    ("nobody says which filesystem", {}, report(0, chain_id="", identity=identity(filesystem_id="")), C.DELETED),
    ("another installation of the agent", {}, report(0, chain_id="", install_id="i-2"), C.LEFT_BEHIND),
    ("another installation and another filesystem", {}, report(0, chain_id="", install_id="i-2", identity=identity(filesystem_id="fs-2")), C.REFORMATTED),
    ("not readable", {}, report(0, chain_id="", read_error="EACCES"), C.UNREADABLE),
    ("older than what was compared", {"stale": True}, report(0, chain_id=""), C.STALE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "chain", "read", "conclusion"),
    [cell[1:] for cell in PRESENT_CELLS],
    ids=[cell[0] for cell in PRESENT_CELLS],
)
def test_a_chain_that_was_found_is_called_what_it_is(
    given: dict[str, Any], chain: ChainRecord | None, read: ChainReport, conclusion: Conclusion
) -> None:
    assert compare(Case(report=read, chain=chain, **given), PRESENT).conclusion is conclusion


@pytest.mark.parametrize(
    ("given", "read", "conclusion"),
    [cell[1:] for cell in ABSENT_CELLS],
    ids=[cell[0] for cell in ABSENT_CELLS],
)
def test_a_chain_that_was_not_found_is_called_what_it_is(
    given: dict[str, Any], read: ChainReport, conclusion: Conclusion
) -> None:
    assert compare(Case(report=read, chain=known(), **given), ABSENT).conclusion is conclusion


def test_every_row_of_both_tables_has_a_cell_above() -> None:
    """A row that no test reaches may be shadowed by one before it."""
    assert {row.conclusion for row in PRESENT} == {cell[4] for cell in PRESENT_CELLS}
    assert {row.conclusion for row in ABSENT} == {cell[3] for cell in ABSENT_CELLS}


def test_the_severities_are_those_of_the_catalogue() -> None:
    """What wakes people is decided here, once."""
    calls = {row.conclusion: row.severity for row in (*ABSENT, *PRESENT)}

    quiet = {C.UNREADABLE, C.STALE, C.RESET, C.LEFT_BEHIND, C.NEW, C.CLOSED, C.SURVIVED, C.ADOPTED}
    assert {name for name, severity in calls.items() if severity is Severity.INFO} == quiet
    assert {name for name, severity in calls.items() if severity is Severity.TICKET} == {C.DELETED, C.FOREIGN}


def test_only_losses_wait_for_a_second_read() -> None:
    waiting = {row.conclusion.value: row.loss for row in (*ABSENT, *PRESENT) if row.loss}

    assert waiting == {kind.value: kind for kind in waiting.values() if kind}


@pytest.mark.parametrize(
    ("read", "chain", "shown"),
    [
        (report(), known(), set()),
        (report(torn_seq=101), known(), {Beside.TORN_IN_FLIGHT}),
        (report(90, torn_seq=91), known(), set()),
        (report(broken=[40]), known(), {Beside.CORRUPT}),
        (report(90, broken=[95]), known(), set()),
        (report(cache_differs=True), known(), {Beside.CACHE_DIFFERS}),
        (report(install_id="i-2"), known(), {Beside.REINSTALLED}),
    ],
)
def test_what_a_read_shows_besides(read: ChainReport, chain: ChainRecord, shown: set[Beside]) -> None:
    """A write that was under way when the machine stopped is no damage; one that was confirmed is."""
    assert beside(Case(report=read, chain=chain)) == shown


def test_a_chain_on_a_volume_that_had_none_has_moved() -> None:
    case = Case(report=report(), chain=known(volume="/var"), elsewhere="/var")

    assert beside(case) == {Beside.MOVED}


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (report(), BreachKind.LOST_TAIL),
        (report(previous_boot="clean"), BreachKind.ROLLED_BACK),
        (report(machine=Machine(instance_id="vm-2")), BreachKind.RESTORED),
        (report(**SAME_BOOT), BreachKind.ROLLED_BACK),
        (report(**SAME_BOOT, cause=ReadCause.FORK), BreachKind.MEMORY_ROLLBACK),
    ],
)
def test_a_promise_that_comes_late_is_held_against_the_read_in_its_own_words(
    read: ChainReport, kind: BreachKind
) -> None:
    assert shortage_kind(Case(report=read, chain=known())) is kind
