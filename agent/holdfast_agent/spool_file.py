"""The spool's SQLite file. Everything here blocks; `spool.py` calls it from one thread of its own.

One connection and one writer: two that checkpoint could corrupt a WAL in SQLite 3.7.0–3.51.2 (sqlite.org/wal.html,
"WAL-reset bug"), and distributions ship those. `synchronous=FULL` fsyncs the WAL at each commit.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import Struct

from holdfast_agent.core.delivery import Spooled
from holdfast_agent.durable_file import sync_folder
from holdfast_wire import Acknowledgement, Position, content_digest

# Without a rowid the key has no index of its own, which quick_check would not compare with the table.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    epoch INTEGER NOT NULL, seq INTEGER NOT NULL, digest TEXT NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (epoch, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class DiskFacts(Struct, frozen=True, kw_only=True):
    """What the file holds after a commit."""

    messages: int = 0
    bytes: int = 0
    dropped_total: int = 0
    oldest: Position | None = None
    acknowledged: Position | None = None


class SpoolFile:
    """The open file. Every method raises OSError or sqlite3.Error when the disk fails; then `close` it."""

    def __init__(self, path: Path, bytes_max: int, messages_max: int) -> None:
        """Open or create it. A damaged file is set aside as `*.corrupt`, and what can be read of it is carried over."""
        self._path = path
        self._bytes_max = bytes_max
        self._messages_max = messages_max
        self.repaired = ""
        """What was found damaged and what was saved of it; empty when nothing was."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._connection = _connect(path)
        except sqlite3.DatabaseError as error:
            if not damaged(error):
                raise
            self._connection = self._rebuild(error)
        sync_folder(path.parent)
        self._messages, self._bytes = self._connection.execute(
            "SELECT count(*), coalesce(sum(length(payload)), 0) FROM message"
        ).fetchone()

    def commit(
        self, messages: list[Spooled], acknowledged: list[Acknowledgement], dropped: int = 0
    ) -> DiskFacts:
        """Add and delete in one transaction; on return it is on the medium.

        `dropped` were lost elsewhere for want of room and are counted with what is dropped here.
        """
        with self._transaction():
            for message in messages:
                # Anew even if it seems to stand there: after a failed fsync a row may live in the page cache only.
                self._delete(message.position)
                self._connection.execute(
                    "INSERT INTO message VALUES (?, ?, ?, ?)",
                    (message.position.epoch, message.position.seq, message.digest, message.payload),
                )
                self._messages += 1
                self._bytes += len(message.payload)
            for each in acknowledged:
                self._delete(Position(each.epoch, each.seq), each.digest)
            self._note_acknowledged(acknowledged)
            dropped += self._make_room()
            if dropped:
                self._add_to_note("dropped_total", dropped)
        return self.facts()

    def read(self, after: Position | None, messages_max: int, bytes_max: int) -> list[Spooled]:
        """The oldest messages after a position, until either bound is met; at least one if there is one.

        A payload that does not match its digest rotted on disk: it is dropped, for no collector could acknowledge it.
        """
        epoch, seq = (after.epoch, after.seq) if after else (0, 0)
        rows = self._connection.execute(
            "SELECT epoch, seq, digest, payload FROM message WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq LIMIT ?",
            (epoch, seq, messages_max),
        )
        found: list[Spooled] = []
        rotten: list[Position] = []
        size = 0
        for row in rows:
            message = _whole(row)
            if message is None:
                rotten.append(Position(*row[:2]))
                continue
            found.append(message)
            size += len(message.payload)
            if size >= bytes_max:
                break
        rows.close()
        if rotten:
            self._drop_rotten(rotten)
        return found

    def facts(self) -> DiskFacts:
        """What the file holds now."""
        notes = dict(self._connection.execute("SELECT name, value FROM note"))
        acknowledged = None
        if "acknowledged_epoch" in notes:
            acknowledged = Position(notes["acknowledged_epoch"], notes["acknowledged_seq"])
        return DiskFacts(
            messages=self._messages,
            bytes=self._bytes,
            dropped_total=notes.get("dropped_total", 0),
            oldest=self._oldest(),
            acknowledged=acknowledged,
        )

    def close(self) -> None:
        """Let go of the file; a failing disk may refuse, and then there is nothing left to lose."""
        try:
            self._connection.close()
        except sqlite3.Error:
            pass

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        counted = self._messages, self._bytes
        try:
            with self._connection:  # commits, or rolls back and raises
                self._connection.execute("BEGIN IMMEDIATE")
                yield
        except BaseException:
            self._messages, self._bytes = counted
            raise

    def _delete(self, position: Position, digest: str | None = None) -> bool:
        """Delete the message there, if it has the digest; whether one was deleted."""
        where = (position.epoch, position.seq, digest)
        row = self._connection.execute(
            "SELECT length(payload) FROM message WHERE epoch = ?1 AND seq = ?2 AND digest = coalesce(?3, digest)",
            where,
        ).fetchone()
        if row is None:
            return False
        self._connection.execute("DELETE FROM message WHERE epoch = ? AND seq = ?", where[:2])
        self._messages -= 1
        self._bytes -= row[0]
        return True

    def _oldest(self) -> Position | None:
        row = self._connection.execute(
            "SELECT epoch, seq FROM message ORDER BY epoch, seq LIMIT 1"
        ).fetchone()
        return Position(*row) if row else None

    def _make_room(self) -> int:
        """Drop the oldest until the bounds hold, but never the only one; how many were dropped."""
        dropped = 0
        while self._messages > 1 and (self._messages > self._messages_max or self._bytes > self._bytes_max):
            oldest = self._oldest()
            assert oldest is not None
            self._delete(oldest)
            dropped += 1
        return dropped

    def _drop_rotten(self, positions: list[Position]) -> None:
        with self._transaction():
            for position in positions:
                self._delete(position)
            self._add_to_note("dropped_total", len(positions))

    def _note_acknowledged(self, acknowledged: list[Acknowledgement]) -> None:
        if not acknowledged:
            return
        known = self.facts().acknowledged or Position(0, 0)
        newest = max(Position(each.epoch, each.seq) for each in acknowledged)
        if newest > known:
            self._connection.executemany(
                "INSERT OR REPLACE INTO note VALUES (?, ?)",
                [("acknowledged_epoch", newest.epoch), ("acknowledged_seq", newest.seq)],
            )

    def _add_to_note(self, name: str, number: int) -> None:
        self._connection.execute(
            "INSERT INTO note VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (name, number),
        )

    def _rebuild(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        saved = _salvage(self._path)
        for suffix in ("", "-wal", "-shm"):
            damaged_file = self._path.with_name(self._path.name + suffix)
            if damaged_file.exists():
                # One place, so that a disk that damages the file again and again is not filled with its remains.
                os.replace(damaged_file, self._path.with_name(f"{self._path.name}{suffix}.corrupt"))
        connection = _connect(self._path)
        with connection:
            connection.executemany(
                "INSERT OR IGNORE INTO message VALUES (?, ?, ?, ?)",
                [(m.position.epoch, m.position.seq, m.digest, m.payload) for m in saved],
            )
        self.repaired = (
            f"the spool file was damaged ({error}); {len(saved)} messages were saved from it, "
            f"the rest is kept as {self._path.name}.corrupt"
        )
        return connection


def damaged(error: BaseException) -> bool:
    """Whether SQLite says that the file itself is broken, rather than that the disk cannot be had."""
    return _result_code(error) in _CORRUPT


def full(error: BaseException) -> bool:
    """Whether the disk has no room, and is otherwise in order."""
    return _result_code(error) == sqlite3.SQLITE_FULL


def _result_code(error: BaseException) -> int:
    """The primary result code: the low byte (sqlite.org/rescode.html)."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _connect(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.DatabaseError for a damaged file, now rather than at some later message."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -256")  # KiB; a spool is written once and read once
        connection.execute("PRAGMA journal_size_limit = 1048576")
        for (said,) in connection.execute("PRAGMA quick_check(1)"):
            if said != "ok":
                raise _damage(said)
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _damage(said: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(said)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _whole(row: tuple[int, int, str, bytes]) -> Spooled | None:
    """The message in a row, or None when its bytes are not the ones that were written."""
    epoch, seq, digest, payload = row
    if not (isinstance(payload, bytes) and content_digest(payload) == digest):
        return None
    return Spooled(Position(epoch, seq), digest, payload)


def _salvage(path: Path) -> list[Spooled]:
    """Every whole message that can still be read from a damaged file, until reading fails."""
    saved: list[Spooled] = []
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for row in connection.execute("SELECT epoch, seq, digest, payload FROM message"):
                message = _whole(row)
                if message is not None:
                    saved.append(message)
    except (sqlite3.Error, OSError):
        pass  # as far as it went
    return saved
