"""The peer of our databases: the standard library's sqlite3 with a transaction for every row, and the bare disk."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

BLOCK_BYTES = 4096


def timed_single_commits(folder: Path, payload: bytes, count: int) -> list[float]:
    """Seconds of each of `count` inserts, each a transaction of its own: WAL, `synchronous=FULL`."""
    taken = []
    with closing(sqlite3.connect(folder / "plain.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE message (number INTEGER PRIMARY KEY, payload BLOB NOT NULL)")
        for number in range(count):
            began = time.perf_counter()
            connection.execute("INSERT INTO message VALUES (?, ?)", (number, payload))
            taken.append(time.perf_counter() - began)
    return taken


def timed_syncs(folder: Path, count: int) -> list[float]:
    """Seconds of each of `count` fdatasync calls after writing 4 KiB: what the disk itself takes."""
    taken = []
    descriptor = os.open(folder / "synced", os.O_RDWR | os.O_CREAT)
    try:
        for number in range(count):
            os.pwrite(descriptor, os.urandom(BLOCK_BYTES), number * BLOCK_BYTES)
            began = time.perf_counter()
            os.fdatasync(descriptor)
            taken.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
    return taken
