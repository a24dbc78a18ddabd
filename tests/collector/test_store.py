"""The store: what was committed is there after a restart, and what was not is not."""

from pathlib import Path

import apsw
import pytest
from msgspec import structs

from holdfast_collector.core.effect import Commit
from holdfast_collector.core.record import HeldVerdict, State
from holdfast_collector.errors import Fenced, StoreNewer, StoreUnwritable
from holdfast_collector.store import Happened, Loaded
from holdfast_collector.store.sqlite import PRUNE_ROWS, SqliteStore, _shipped_migrations, _text
from tests.collector.records import (
    AT,
    COUNT_PLACE,
    VERDICT_PLACE,
    alert,
    chain_record,
    event_count,
    event_row,
    held_verdict,
    key,
    node_record,
    notice,
    resolved,
    seen,
    tracked,
    turn,
    window,
)

FULL = alert("/")
GONE = alert("/srv", episode=2)


def everything() -> Commit:
    return Commit(
        nodes={"db-1": node_record()},
        alerts={key(FULL): tracked(FULL)},
        resolved=[resolved(GONE)],
        notices=[notice(FULL), notice(GONE), notice(GONE, "resolved", at=AT + 60)],
        seen=[seen(1), seen(2)],
        events=[event_row(1)],
        counts={COUNT_PLACE: event_count(1)},
        chains={("db-1", "c1" * 16): chain_record()},
        windows={"db-1": window()},
        turns=[turn()],
        verdicts={VERDICT_PLACE: held_verdict()},
        next_episode=3,
    )


def load(store: SqliteStore) -> Loaded:
    return store.load(events_since=0.0, resolved_since=0.0)


def prune(store: SqliteStore, epoch: int, before: float) -> int:
    return store.prune("main", epoch, events_before=before, resolved_before=before, history_before=before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "collector.db"


def test_new_store_remembers_nothing_and_says_that_nothing_was_lost(path: Path) -> None:
    store = SqliteStore.open(path)

    assert (store.opening.loss, load(store)) == ("", Loaded(state=State()))


def test_everything_committed_is_there_after_a_restart(path: Path) -> None:
    """Alert, outbox, identity of the message and count come back together: they are one transaction."""
    store = SqliteStore.open(path)
    epoch = store.take("main")
    store.commit("main", epoch, [everything()])
    store.close()

    state = load(SqliteStore.open(path)).state

    assert state == State(
        nodes=[node_record()],
        alerts=[tracked(FULL)],
        resolved=[resolved(GONE)],
        notices=[notice(FULL), notice(GONE), notice(GONE, "resolved", at=AT + 60)],
        seen=[seen(1), seen(2)],
        counts=[event_count(1)],
        recent=[event_row(1)],
        chains=[chain_record()],
        windows=[window()],
        verdicts=[held_verdict()],
        next_episode=3,
    )


def test_later_rows_replace_earlier_ones_and_what_left_is_gone(path: Path) -> None:
    store = SqliteStore.open(path)
    epoch = store.take("main")
    store.commit("main", epoch, [everything()])
    later = Commit(
        nodes={"db-1": node_record(session="lost")},
        alerts={key(FULL): None},
        taken=[notice(FULL).id, notice(GONE).id],
        forgotten=[("db-1", "install-db-1", 1, 1)],
        counts={COUNT_PLACE: event_count(5)},
        chains={("db-1", "c1" * 16): None, ("db-1", "c2" * 16): chain_record(chain_id="c2" * 16)},
        windows={"db-1": None},
        verdicts={VERDICT_PLACE: None, ("db-1", "volume", "/"): held_verdict("/")},
    )
    store.commit("main", epoch, [later])

    state = load(store).state

    assert state == State(
        nodes=[node_record(session="lost")],
        alerts=[],
        resolved=[resolved(GONE)],
        notices=[notice(GONE, "resolved", at=AT + 60)],
        seen=[seen(2)],
        counts=[event_count(5)],
        recent=[event_row(1)],
        chains=[chain_record(chain_id="c2" * 16)],
        verdicts=[held_verdict("/")],
        next_episode=3,
    )


def test_forgotten_node_takes_its_memory_along_but_not_the_outbox(path: Path) -> None:
    """The resolve of a forgotten node's alerts must still reach people."""
    store = SqliteStore.open(path)
    epoch = store.take("main")
    store.commit("main", epoch, [everything(), Commit(nodes={"db-1": None}, alerts={key(FULL): None})])

    state = load(store).state

    assert (state.nodes, state.seen, state.counts, state.recent, len(state.notices)) == ([], [], [], [], 3)
    assert (state.chains, state.windows, state.verdicts) == ([], [], [])
    assert store.happened("db-1", limit=10).turns == []


def test_commits_of_one_transaction_apply_in_order(path: Path) -> None:
    """A node that is forgotten and met again within one batch keeps only what came after."""
    store = SqliteStore.open(path)
    again = Commit(nodes={"db-1": node_record(boot_id="boot-2")}, seen=[seen(9)])
    store.commit("main", store.take("main"), [everything(), Commit(nodes={"db-1": None}), again])

    state = load(store).state

    assert (state.nodes, state.seen, state.recent) == ([node_record(boot_id="boot-2")], [seen(9)], [])


def test_old_owner_is_fenced_and_leaves_nothing_behind(tmp_path: Path, path: Path) -> None:
    """Two collectors on one database: the newer one owns it, the older one must notice at its next commit."""
    old = SqliteStore.open(path)
    old_epoch = old.take("main")
    new = SqliteStore.open(path)
    new_epoch = new.take("main")

    with pytest.raises(Fenced):
        old.commit("main", old_epoch, [everything()])
    with pytest.raises(Fenced):
        prune(old, old_epoch, AT)
    new.commit("main", new_epoch, [Commit(nodes={"web-1": node_record("web-1")})])

    assert (new_epoch, load(new).state.nodes) == (old_epoch + 1, [node_record("web-1")])


def test_commit_that_fails_leaves_nothing_and_succeeds_later_unchanged(path: Path) -> None:
    """A full disk stops a transaction in its middle; the same commit must work once there is room."""
    store = SqliteStore.open(path)
    epoch = store.take("main")
    many = Commit(events=[event_row(seq) for seq in range(2_000)])
    pages = store._db.pragma("page_count")
    store._db.pragma("max_page_count", pages + 20)

    with pytest.raises(StoreUnwritable, match="full"):
        store.commit("main", epoch, [everything(), many])
    assert load(store).state == State()

    store._db.pragma("max_page_count", 1_000_000)
    store.commit("main", epoch, [everything(), many])
    assert len(load(store).state.recent) == 2_001


def test_load_leaves_out_what_is_older_than_the_core_needs(path: Path) -> None:
    store = SqliteStore.open(path)
    rows = Commit(
        events=[event_row(1, at=AT), event_row(2, at=AT + 100)],
        resolved=[resolved(GONE, at=AT), resolved(FULL, at=AT + 100)],
    )
    store.commit("main", store.take("main"), [rows])

    state = store.load(events_since=AT + 50, resolved_since=AT + 50).state

    assert (state.recent, state.resolved) == ([event_row(2, at=AT + 100)], [resolved(FULL, at=AT + 100)])


def test_pruning_deletes_old_rows_in_bounded_pieces(path: Path) -> None:
    store = SqliteStore.open(path)
    epoch = store.take("main")
    old = [event_row(seq, at=AT) for seq in range(PRUNE_ROWS + 10)]
    store.commit(
        "main", epoch, [Commit(events=[*old, event_row(0, at=AT + 100)], resolved=[resolved(GONE, at=AT)])]
    )

    deleted = [prune(store, epoch, AT + 50) for _ in range(3)]

    state = load(store).state
    assert (deleted, len(state.recent), state.resolved) == ([PRUNE_ROWS + 1, 10, 0], 1, [])


def test_history_is_pruned_in_bounded_pieces_and_the_verdicts_that_stand_are_not(path: Path) -> None:
    """What stands since long ago stands."""
    store = SqliteStore.open(path)
    epoch = store.take("main")
    old = [turn(at=AT + n / 1000) for n in range(PRUNE_ROWS + 10)]
    verdicts: dict[tuple[str, str, str], HeldVerdict | None] = {VERDICT_PLACE: held_verdict()}
    store.commit("main", epoch, [Commit(turns=[*old, turn(at=AT + 100)], verdicts=verdicts)])

    deleted = [prune(store, epoch, AT + 50) for _ in range(3)]

    assert (deleted, store.happened("db-1", limit=10).turns) == ([PRUNE_ROWS, 10, 0], [turn(at=AT + 100)])
    assert load(store).state.verdicts == [held_verdict()]


def test_what_happened_to_a_group_is_kept_although_it_lies_on_no_node(path: Path) -> None:
    store = SqliteStore.open(path)
    group = turn("orders", node="", kind="group")
    other = turn("users", node="", kind="group")
    store.commit("main", store.take("main"), [Commit(turns=[group, other, turn("orders")])])

    found = store.happened("", limit=10, kind="group", resource="orders")

    assert found == Happened(turns=[group], resolved=[], fates=[])


def test_what_happened_to_a_node_comes_newest_first_and_bounded(path: Path) -> None:
    store = SqliteStore.open(path)
    fate = structs.replace(event_row(4, at=AT + 4), type="reboot_fate", resource_kind="node", resource="db-1")
    rows = Commit(
        turns=[turn(at=AT), turn("/", at=AT + 1), turn(at=AT + 2, after=None), turn(node="web-1", at=AT + 3)],
        resolved=[resolved(GONE, at=AT + 1), resolved(FULL, at=AT + 2)],
        events=[event_row(1), fate],
    )
    store.commit("main", store.take("main"), [rows])

    newest = store.happened("db-1", limit=2)
    of_one = store.happened("db-1", limit=10, kind="volume", resource="/srv")

    assert newest == Happened(
        turns=[turn(at=AT + 2, after=None), turn("/", at=AT + 1)],
        resolved=[resolved(FULL, at=AT + 2), resolved(GONE, at=AT + 1)],
        fates=[fate],
    )
    assert of_one == Happened(
        turns=[turn(at=AT + 2, after=None), turn(at=AT)], resolved=[resolved(GONE, at=AT + 1)], fates=[]
    )


def test_an_alert_the_disk_has_spoilt_does_not_cost_the_rest_of_the_history(path: Path) -> None:
    store = SqliteStore.open(path)
    store.commit("main", store.take("main"), [Commit(resolved=[resolved(GONE), resolved(FULL)])])
    store._db.execute("UPDATE resolved SET record = '{' WHERE key = ?", (key(FULL),))

    both = store.happened("db-1", limit=10), store.happened("db-1", limit=10, kind="volume")

    assert [answer.resolved for answer in both] == [[resolved(GONE)], [resolved(GONE)]]


def test_row_this_release_cannot_read_is_named_and_kept(path: Path) -> None:
    """One strange row must cost neither the rest of the memory nor the row itself."""
    store = SqliteStore.open(path)
    store.commit("main", store.take("main"), [everything()])
    store._db.execute("UPDATE alerts SET record = '{\"key\": 7}'")

    loaded = load(store)

    assert loaded.unreadable == (f"alerts/{key(FULL)}: Expected `str`, got `int` - at `$.key`",)
    assert (loaded.state.alerts, loaded.state.nodes) == ([], [node_record()])
    assert store._db.execute("SELECT count(*) FROM alerts").fetchone() == (1,)


def test_newer_schema_is_refused_with_the_way_out(path: Path) -> None:
    SqliteStore.open(path).close()
    db = apsw.Connection(str(path))
    db.pragma("user_version", 99)
    db.close()

    with pytest.raises(StoreNewer, match=r"has schema 99, this release knows up to 3.*before-schema-99"):
        SqliteStore.open(path)


def test_chain_this_release_cannot_read_is_named_and_the_others_are_remembered(path: Path) -> None:
    """One spoilt row must not make every disk of the fleet look new."""
    store = SqliteStore.open(path)
    epoch = store.take("main")
    other = chain_record(chain_id="c2" * 16)
    store.commit("main", epoch, [everything(), Commit(chains={("db-1", "c2" * 16): other})])
    store._db.execute("UPDATE chains SET record = '{}' WHERE chain_id = ?", ("c1" * 16,))

    loaded = load(store)

    assert (loaded.state.chains, len(loaded.unreadable)) == ([other], 1)
    assert loaded.unreadable[0].startswith(f"chains/db-1/{'c1' * 16}: ")


def test_a_database_from_before_the_chains_keeps_everything_and_learns_them(path: Path) -> None:
    """The upgrade of a running installation: nothing of the memory may go."""
    shipped = _shipped_migrations()
    before = everything()
    before.chains, before.windows = {}, {}
    old = SqliteStore.open(path, migrations=shipped[:1])
    old.take("main")
    for sql, rows in (
        ("INSERT INTO nodes VALUES (?, ?)", [("db-1", _text(before.nodes["db-1"]))]),
        ("INSERT INTO alerts VALUES (?, ?)", [(key(FULL), _text(before.alerts[key(FULL)]))]),
    ):
        old._db.executemany(sql, rows)
    old.close()

    store = SqliteStore.open(path)
    store.commit("main", store.take("main"), [Commit(chains={("db-1", "c1" * 16): chain_record()})])
    state = load(store).state

    assert (state.nodes, state.alerts, state.chains) == ([node_record()], [tracked(FULL)], [chain_record()])
    assert path.with_name("collector.db.before-schema-2").exists()


def test_a_database_from_before_the_history_keeps_everything_and_learns_it(path: Path) -> None:
    """What resolved, and what boots turned out to be, is found by node after the upgrade; a spoilt row stays."""
    fate = structs.replace(event_row(4), type="reboot_fate", resource_kind="node", resource="db-1")
    old = SqliteStore.open(path, migrations=_shipped_migrations()[:2])
    epoch = old.take("main")
    for sql, rows in (
        ("INSERT INTO nodes VALUES (?, ?)", [("db-1", _text(node_record()))]),
        ("INSERT INTO resolved VALUES (?, ?, ?)", [(key(GONE), AT + 60, _text(resolved(GONE)))]),
        ("INSERT INTO resolved VALUES (?, ?, ?)", [("spoilt", AT + 60, '{"alert')]),
        (
            "INSERT INTO events (node, received_at, record) VALUES (?, ?, ?)",
            [("db-1", AT, _text(event_row(1))), ("db-1", AT, _text(fate)), ("db-1", AT, "{")],
        ),
        ("INSERT INTO chains VALUES (?, ?, ?)", [("db-1", "c1" * 16, _text(chain_record()))]),
    ):
        old._db.executemany(sql, rows)
    old.close()

    store = SqliteStore.open(path)
    loaded = load(store)
    store.commit(
        "main", store.take("main"), [Commit(turns=[turn()], verdicts={VERDICT_PLACE: held_verdict()})]
    )

    assert store.take("main") == epoch + 2
    assert (loaded.state.nodes, loaded.state.resolved) == ([node_record()], [resolved(GONE)])
    assert (loaded.state.recent, loaded.state.chains) == ([event_row(1), fate], [chain_record()])
    assert [row.partition(":")[0] for row in loaded.unreadable] == ["resolved/spoilt", "events/3"]
    assert store.happened("db-1", limit=10) == Happened(
        turns=[turn()], resolved=[resolved(GONE)], fates=[fate]
    )
    assert path.with_name("collector.db.before-schema-3").exists()


FIRST = "CREATE TABLE things (name TEXT);"
SECOND = "ALTER TABLE things ADD COLUMN size INTEGER; UPDATE things SET size = 1;"


def rows(path: Path) -> list[tuple[object, ...]]:
    db = apsw.Connection(str(path))
    try:
        return [tuple(row) for row in db.execute("SELECT * FROM things")]
    finally:
        db.close()


def test_upgrade_keeps_the_rows_and_a_copy_of_the_older_database(path: Path) -> None:
    store = SqliteStore.open(path, migrations=[FIRST])
    store._db.execute("INSERT INTO things VALUES ('disk')")
    store.close()

    SqliteStore.open(path, migrations=[FIRST, SECOND]).close()

    assert rows(path) == [("disk", 1)]
    assert rows(path.with_name("collector.db.before-schema-2")) == [("disk",)]


def test_upgrade_that_fails_midway_leaves_the_older_schema_whole(path: Path) -> None:
    """Statements and version change in one transaction, so a second try begins where the first began."""
    store = SqliteStore.open(path, migrations=[FIRST])
    store._db.execute("INSERT INTO things VALUES ('disk')")
    store.close()

    with pytest.raises(apsw.SQLError):
        SqliteStore.open(path, migrations=[FIRST, SECOND + " SELECT * FROM nowhere;"])
    assert rows(path) == [("disk",)]

    SqliteStore.open(path, migrations=[FIRST, SECOND]).close()
    assert rows(path) == [("disk", 1)]
