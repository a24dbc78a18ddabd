"""The store of a single machine: SQLite through apsw. The only file that knows apsw.

WAL with `synchronous=FULL`: a commit returns after fsync, and a batch of a thousand rows costs little more than one.
apsw carries its own SQLite, because system releases before 3.51.3 can corrupt a WAL (https://sqlite.org/wal.html,
"WAL-reset bug").

A damaged file is never repaired in place and never replaced in silence: it is renamed and kept, and the collector goes
on with an empty memory *and says so* (`Opening.loss`), because alerting tomorrow matters more than yesterday's state.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Self, TypeVar

import apsw
import msgspec
from msgspec import Struct

from holdfast_collector.core.chain import ChainRecord
from holdfast_collector.core.effect import Commit, Turned
from holdfast_collector.core.record import (
    EventCount,
    EventRow,
    HeldVerdict,
    NodeRecord,
    Notice,
    Resolved,
    RestoreWindow,
    Seen,
    State,
    Tracked,
)
from holdfast_collector.errors import Fenced, StoreCorrupt, StoreNewer, StoreUnwritable
from holdfast_collector.store import Happened, Loaded
from holdfast_rules.verdict import Verdict

PRUNE_ROWS = 5_000
"""Deleted in one transaction: a few tens of milliseconds, so that a month's backlog never delays a page."""

Row = TypeVar("Row")

_UNWRITABLE = (
    apsw.FullError,
    apsw.IOError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.BusyError,
    apsw.LockedError,
)
_CORRUPT = (apsw.CorruptError, apsw.NotADBError)

_SETUP = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA busy_timeout = 5000;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -16000;
"""

_ALERT_OF = " AND CASE WHEN json_valid(record) THEN json_extract(record, '$.alert.{}') END = ?"
"""A row the disk has spoilt must not cost the answer."""

_encode = msgspec.json.Encoder().encode


class Opening(Struct, frozen=True):
    """How opening went."""

    loss: str
    """What was lost and where it may still be, for a person; empty when the database was found in order, or new."""


class SqliteStore:
    """The database file at `path`. Not to be used from two threads at once."""

    def __init__(self, path: Path, db: apsw.Connection, opening: Opening) -> None:
        self.path = path
        self.opening = opening
        self._db = db

    @classmethod
    def open(cls, path: Path, *, migrations: Sequence[str] | None = None) -> Self:
        """Open, check, and bring to this release's shape; a file that is damaged or gone is replaced and reported.

        Raises StoreNewer for a newer release's file and StoreUnwritable when the disk does not let us.
        """
        marker = path.with_name(path.name + ".created")
        with _translated():
            loss = ""
            if marker.exists() and (not path.exists() or path.stat().st_size == 0):
                loss = f"{path} was there before and is gone: starting with an empty memory"
            try:
                db = _opened(path)
            except StoreCorrupt as error:
                loss = _set_aside(path, error.reason)
                db = _opened(path)
            try:
                _migrate(db, path, _shipped_migrations() if migrations is None else migrations)
                marker.touch()
            except BaseException:
                db.close()
                raise
        return cls(path, db, Opening(loss))

    @classmethod
    def replace(cls, path: Path, why: str) -> Self:
        """Set the file aside although it opened, for `why`, and start a new one."""
        loss = _set_aside(path, why)
        store = cls.open(path)
        store.opening = Opening(loss)
        return store

    def take(self, partition: str) -> int:
        """Become the partition's owner; the new epoch."""
        with _translated(), self._transaction():
            self._db.execute(
                "INSERT INTO partitions (partition, epoch) VALUES (?, 1)"
                " ON CONFLICT (partition) DO UPDATE SET epoch = epoch + 1",
                (partition,),
            )
            (epoch,) = self._one("SELECT epoch FROM partitions WHERE partition = ?", partition)
        return int(epoch)

    def load(self, *, events_since: float, resolved_since: float) -> Loaded:
        """All that was committed. Raises StoreCorrupt when the file turns out to be damaged."""
        unreadable: list[str] = []

        def rows(type_: type[Row], table: str, key: str, tail: str = "", *values: float) -> list[Row]:
            decode = msgspec.json.Decoder(type_).decode
            # As bytes: one letter the disk has spoilt must cost its row, not the reading of all others.
            columns = f"CAST({key} AS BLOB), CAST(record AS BLOB)"
            read = self._db.execute(f"SELECT {columns} FROM {table} {tail}", values)
            return list(_decoded(decode, read, table, unreadable))

        with _translated():
            episode = self._one("SELECT max(next_episode) FROM partitions")[0] or 1
            seen = self._db.execute("SELECT node, install_id, epoch, seq, digest, at FROM seen")
            state = State(
                nodes=rows(NodeRecord, "nodes", "node"),
                alerts=rows(Tracked, "alerts", "key"),
                resolved=rows(Resolved, "resolved", "key", "WHERE at >= ? ORDER BY at", resolved_since),
                notices=rows(Notice, "notices", "id", "ORDER BY position"),
                seen=[Seen(*row) for row in seen],
                counts=rows(EventCount, "counts", "node || '/' || resource || '/' || type"),
                recent=rows(EventRow, "events", "id", "WHERE received_at >= ? ORDER BY id", events_since),
                chains=rows(ChainRecord, "chains", "node || '/' || chain_id", "ORDER BY rowid"),
                windows=rows(RestoreWindow, "windows", "node"),
                verdicts=rows(HeldVerdict, "verdicts", "node || '/' || kind || '/' || resource"),
                next_episode=episode,
            )
        return Loaded(state=state, unreadable=tuple(unreadable))

    def commit(self, partition: str, epoch: int, commits: Sequence[Commit]) -> None:
        """Make all of it durable, in order, in one transaction. Raises Fenced and StoreUnwritable, see `Store`."""
        with _translated(), self._transaction():
            self._check_owner(partition, epoch)
            for commit in commits:
                self._write_nodes(commit)
                self._write_alerts(commit)
                self._write_events(commit)
                self._write_chains(commit)
                self._write_verdicts(commit)
                if commit.next_episode:
                    self._db.execute(
                        "UPDATE partitions SET next_episode = ? WHERE partition = ?",
                        (commit.next_episode, partition),
                    )

    def happened(self, node: str, *, limit: int, kind: str = "", resource: str = "") -> Happened:
        """The newest `limit` of each sort of what happened to a node; see `Store`."""
        of = " AND kind = ?" * bool(kind) + " AND resource = ?" * bool(resource)
        wanted = [name for name in (kind, resource) if name]
        alert = _ALERT_OF.format("kind") * bool(kind) + _ALERT_OF.format("resource") * bool(resource)
        unreadable: list[str] = []
        with _translated():
            turns = self._db.execute(
                "SELECT node, kind, resource, at, before, after, reason FROM turns"
                f" WHERE node = ?{of} ORDER BY at DESC, id DESC LIMIT ?",
                (node, *wanted, limit),
            )
            found = [_turned(*row) for row in turns]
            resolved = self._db.execute(
                "SELECT CAST(key AS BLOB), CAST(record AS BLOB) FROM resolved"
                f" WHERE node = ?{alert} ORDER BY at DESC LIMIT ?",
                (node, *wanted, limit),
            )
            ended = list(_decoded(msgspec.json.Decoder(Resolved).decode, resolved, "resolved", unreadable))
            fates: list[EventRow] = []
            if kind in {"", "node"} and resource in {"", node}:
                rows = self._db.execute(
                    "SELECT CAST(id AS BLOB), CAST(record AS BLOB) FROM events"
                    " WHERE node = ? AND type = 'reboot_fate' ORDER BY received_at DESC LIMIT ?",
                    (node, limit),
                )
                fates = list(_decoded(msgspec.json.Decoder(EventRow).decode, rows, "events", unreadable))
        return Happened(turns=found, resolved=ended, fates=fates)

    def prune(
        self,
        partition: str,
        epoch: int,
        *,
        events_before: float,
        resolved_before: float,
        history_before: float,
    ) -> int:
        """Delete at most PRUNE_ROWS old rows of each kind; how many went."""
        deleted = 0
        with _translated(), self._transaction():
            self._check_owner(partition, epoch)
            for table, column, before in (
                ("events", "received_at", events_before),
                ("resolved", "at", resolved_before),
                ("turns", "at", history_before),
            ):
                self._db.execute(
                    f"DELETE FROM {table} WHERE rowid IN"
                    f" (SELECT rowid FROM {table} WHERE {column} < ? ORDER BY {column} LIMIT ?)",
                    (before, PRUNE_ROWS),
                )
                deleted += self._db.changes()
        return deleted

    def close(self) -> None:
        """Checkpoint and close. A disk that fails now has failed before: what is committed stays committed."""
        with contextlib.suppress(apsw.Error):
            self._db.close()

    def _check_owner(self, partition: str, epoch: int) -> None:
        (owner,) = self._one("SELECT max(epoch) FROM partitions WHERE partition = ?", partition)
        if owner != epoch:
            raise Fenced(f"partition {partition} belongs to owner {owner} now, this is owner {epoch}")

    def _write_nodes(self, commit: Commit) -> None:
        gone = [(node,) for node, record in commit.nodes.items() if record is None]
        if gone:
            for table in ("nodes", "seen", "events", "counts", "chains", "windows", "turns", "verdicts"):
                self._db.executemany(f"DELETE FROM {table} WHERE node = ?", gone)
        kept = ((node, _text(record)) for node, record in commit.nodes.items() if record is not None)
        self._many("INSERT OR REPLACE INTO nodes (node, record) VALUES (?, ?)", kept)
        self._many(
            "INSERT OR REPLACE INTO seen (node, install_id, epoch, seq, digest, at) VALUES (?, ?, ?, ?, ?, ?)",
            ((row.node, row.install_id, row.epoch, row.seq, row.digest, row.at) for row in commit.seen),
        )
        self._many(
            "DELETE FROM seen WHERE node = ? AND install_id = ? AND epoch = ? AND seq = ?", commit.forgotten
        )

    def _write_alerts(self, commit: Commit) -> None:
        left = [(key,) for key, row in commit.alerts.items() if row is None]
        self._many("DELETE FROM alerts WHERE key = ?", left)
        kept = ((key, _text(row)) for key, row in commit.alerts.items() if row is not None)
        self._many("INSERT OR REPLACE INTO alerts (key, record) VALUES (?, ?)", kept)
        self._many(
            "INSERT OR REPLACE INTO resolved (key, at, node, record) VALUES (?, ?, ?, ?)",
            ((row.key, row.at, row.alert.node, _text(row)) for row in commit.resolved),
        )
        self._many(
            "INSERT OR REPLACE INTO notices (id, record) VALUES (?, ?)",
            ((notice.id, _text(notice)) for notice in commit.notices),
        )
        self._many("DELETE FROM notices WHERE id = ?", ((id_,) for id_ in commit.taken))

    def _write_events(self, commit: Commit) -> None:
        self._many(
            "INSERT INTO events (node, received_at, type, record) VALUES (?, ?, ?, ?)",
            ((row.node, row.received_at, row.type, _text(row)) for row in commit.events),
        )
        self._many(
            "INSERT OR REPLACE INTO counts (node, resource_kind, resource, type, record) VALUES (?, ?, ?, ?, ?)",
            ((*place, _text(count)) for place, count in commit.counts.items()),
        )

    def _write_chains(self, commit: Commit) -> None:
        dropped = [place for place, record in commit.chains.items() if record is None]
        self._many("DELETE FROM chains WHERE node = ? AND chain_id = ?", dropped)
        self._many(
            "INSERT INTO chains (node, chain_id, record) VALUES (?, ?, ?)"
            " ON CONFLICT (node, chain_id) DO UPDATE SET record = excluded.record",
            ((*place, _text(record)) for place, record in commit.chains.items() if record is not None),
        )
        over = [(node,) for node, window in commit.windows.items() if window is None]
        self._many("DELETE FROM windows WHERE node = ?", over)
        kept = ((node, _text(window)) for node, window in commit.windows.items() if window is not None)
        self._many("INSERT OR REPLACE INTO windows (node, record) VALUES (?, ?)", kept)

    def _write_verdicts(self, commit: Commit) -> None:
        self._many(
            "INSERT INTO turns (node, kind, resource, at, before, after, reason) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (turn.node, turn.kind, turn.resource, turn.at, turn.before, turn.after, turn.reason)
                for turn in commit.turns
            ),
        )
        judged_no_more = [place for place, held in commit.verdicts.items() if held is None]
        self._many("DELETE FROM verdicts WHERE node = ? AND kind = ? AND resource = ?", judged_no_more)
        self._many(
            "INSERT OR REPLACE INTO verdicts (node, kind, resource, record) VALUES (?, ?, ?, ?)",
            ((*place, _text(held)) for place, held in commit.verdicts.items() if held is not None),
        )

    def _many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._db.executemany(sql, rows)

    def _one(self, sql: str, *values: str) -> tuple[Any, ...]:
        row = self._db.execute(sql, values).fetchone()
        assert row is not None, "aggregates and rows just written are always there"
        return tuple(row)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # After some errors SQLite has rolled back by itself (https://sqlite.org/lang_transaction.html).
            if not self._db.get_autocommit():
                self._db.execute("ROLLBACK")
            raise


def _opened(path: Path) -> apsw.Connection:
    """The database, checked page by page. Raises StoreCorrupt; leaves no open file behind when it does."""
    with _translated():
        db = apsw.Connection(str(path))
        try:
            for _ in db.execute(_SETUP):
                pass
            found = [str(row[0]) for row in db.execute("PRAGMA quick_check(3)")]
            if found != ["ok"]:
                raise StoreCorrupt("; ".join(found))
        except BaseException:
            db.close()
            raise
        return db


def _migrate(db: apsw.Connection, path: Path, migrations: Sequence[str]) -> None:
    """Apply the numbered migrations the file does not have yet, each in its own transaction, after a backup."""
    version = int(db.pragma("user_version"))
    if version > len(migrations):
        raise StoreNewer(
            f"{path} has schema {version}, this release knows up to {len(migrations)}: install the newer release"
            f" again, or restore the backup {path.name}.before-schema-{version} over it"
        )
    if 0 < version < len(migrations):
        _back_up(db, path.with_name(f"{path.name}.before-schema-{version + 1}"))
    for number, script in enumerate(migrations[version:], version + 1):
        # Statements and version change together or not at all: a kill in between leaves the older shape.
        for _ in db.execute(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;"):
            pass


def _back_up(db: apsw.Connection, target: Path) -> None:
    copy = apsw.Connection(str(target))
    with copy.backup("main", db, "main") as backup:
        while not backup.done:
            backup.step(1000)
    copy.close()


def _shipped_migrations() -> list[str]:
    """The migrations in order of their numbers; the place in the list is the version they lead to, less one."""
    folder = resources.files("holdfast_collector.store") / "migrations"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    assert [file.name for file in files] == [f"{number:04}.sql" for number in range(1, len(files) + 1)]
    return [file.read_text(encoding="utf-8") for file in files]


def _set_aside(path: Path, why: str) -> str:
    """Rename the database and what belongs to it, so that nobody overwrites what can still be rescued."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return f"{path} is damaged ({why}); kept as {aside.name}, starting with an empty memory"


def _decoded(
    decode: Callable[[bytes], Row], rows: Iterable[tuple[bytes, bytes]], table: str, unreadable: list[str]
) -> Iterator[Row]:
    for key, record in rows:
        try:
            yield decode(record)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            unreadable.append(f"{table}/{key.decode('utf-8', 'backslashreplace')}: {error}")


def _turned(
    node: str, kind: str, resource: str, at: float, before: str | None, after: str | None, reason: str
) -> Turned:
    return Turned(
        node=node,
        kind=kind,
        resource=resource,
        at=at,
        before=Verdict(before) if before else None,
        after=Verdict(after) if after else None,
        reason=reason,
    )


def _text(record: object) -> str:
    return _encode(record).decode()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """apsw's exceptions as ours. What is left is a mistake of ours, and is left to crash."""
    try:
        yield
    except _UNWRITABLE as error:
        raise StoreUnwritable(f"{type(error).__name__}: {error}") from error
    except (*_CORRUPT, UnicodeDecodeError) as error:
        raise StoreCorrupt(str(error)) from error
    except OSError as error:
        raise StoreUnwritable(str(error)) from error
