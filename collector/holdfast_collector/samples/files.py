"""The folder of recorded slices: written by one collector, read by anybody at any time.

One file holds about an hour and is only ever appended to; what is too old, or too much, goes file by file, the oldest
first. A collector that starts begins a new file, so what a crash tore stays the end of an old one. Readers take no lock:
they see whole slices, and leave an unfinished one at a file's end for later.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from holdfast_collector.samples.slice import HEADER, MAGIC, Slice, SliceUnusable, unpack

FOLDER = "samples"
"""Within `data_dir`."""
SUFFIX = ".samples"
FILE_SECONDS = 3600.0
FILE_BYTES_MAX = 32 * 1024 * 1024
PARTS = 8
"""A file is at most this part of all that may be kept, so that the oldest goes in small steps."""


class Damage(Struct, frozen=True, kw_only=True):
    """A stretch that cannot be read."""

    file: str
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, byte {self.offset}: {self.reason}"


class Kept(Struct, frozen=True, kw_only=True):
    """What the folder holds."""

    bytes: int
    since: float
    """0: nothing."""


class SampleFiles:
    """The writer's side. Not to be used from two threads at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: Path | None = None
        self._began_at = 0.0
        self._bytes = 0

    def append(self, frame: bytes, began_at: float, bytes_max: int) -> None:
        """Put a frame on the disk. Raises OSError; then nothing of it is left."""
        if (
            self._file is None
            or not self._file.exists()
            or began_at - self._began_at >= FILE_SECONDS
            or self._bytes + len(frame) > min(FILE_BYTES_MAX, bytes_max // PARTS)
        ):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self._file, self._began_at, self._bytes = self._fresh(began_at), began_at, 0
        with self._file.open("ab", buffering=0) as file:
            try:
                if file.write(frame) != len(frame):
                    raise OSError(f"{self._file}: the disk took a part only")
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(self._bytes)
                self._file = None
                raise
        self._bytes += len(frame)

    def prune(self, before: float, bytes_max: int) -> list[str]:
        """Delete files of which all is older, and the oldest while there are too many bytes. The names of the latter."""
        found = files(self.folder)
        total = sum(size for _, _, size in found)
        dropped: list[str] = []
        for number, (_, path, size) in enumerate(found):
            if path == self._file:
                break
            over = number + 1 < len(found) and found[number + 1][0] <= before
            if not over and total <= bytes_max:
                break
            # A reader may have it open, which some systems do not let go of: it goes the next time.
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size
                if not over:
                    dropped.append(path.name)
        return dropped

    def clear(self) -> None:
        """Delete all of it."""
        self._file = None
        self.prune(0.0, 0)

    def kept(self) -> Kept:
        """How much there is, and since when."""
        found = files(self.folder)
        return Kept(bytes=sum(size for _, _, size in found), since=found[0][0] if found else 0.0)

    def _fresh(self, began_at: float) -> Path:
        number = int(1000 * began_at)
        while (path := self.folder / f"{number:014}{SUFFIX}").exists():
            number += 1
        return path


def files(folder: Path) -> list[tuple[float, Path, int]]:
    """(since, path, bytes) of each file, the oldest first. None where there is no folder."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path.stem.isdecimal():
            with contextlib.suppress(FileNotFoundError):
                found.append((int(path.stem) / 1000.0, path, path.stat().st_size))
    return found


def read(folder: Path, since: float, until: float) -> Iterator[Slice | Damage]:
    """What is recorded of a time, slice by slice, and what of it cannot be read. Raises OSError."""
    found = files(folder)
    for number, (began_at, path, _) in enumerate(found):
        ends = found[number + 1][0] if number + 1 < len(found) else until
        # A slice that began in this file may end in the next one's time by the seconds that it lasted.
        if began_at > until or ends + FILE_SECONDS < since:
            continue
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue  # too old, meanwhile
        for piece in parse(data, path.name):
            if isinstance(piece, Damage) or (piece.ended_at >= since and piece.began_at <= until):
                yield piece


def parse(data: bytes, name: str) -> Iterator[Slice | Damage]:
    """The slices of a file. After a damaged one it goes on with the next that is whole."""
    place = 0
    while place < len(data):
        header = data[place : place + HEADER.size]
        whole = len(header) == HEADER.size and header.startswith(MAGIC)
        end = place + HEADER.size + (HEADER.unpack(header)[1] if whole else 0)
        if whole and end <= len(data):
            try:
                yield unpack(header, data[place + HEADER.size : end])
                place = end
                continue
            except SliceUnusable as error:
                reason = str(error)
        else:
            reason = "no slice begins here"
        after = _next(data, place + 1)
        if (
            after == len(data)
            and (whole or MAGIC.startswith(header[:4]) or len(header) < HEADER.size)
            and end > len(data)
        ):
            return  # unfinished: being written now, or when a collector was killed
        yield Damage(file=name, offset=place, reason=f"{reason}; {after - place} bytes are left out")
        place = after


def _next(data: bytes, place: int) -> int:
    """Where the next readable slice begins; the end when there is none."""
    while (place := data.find(MAGIC, place)) >= 0:
        header = data[place : place + HEADER.size]
        if len(header) == HEADER.size:
            end = place + HEADER.size + HEADER.unpack(header)[1]
            if end <= len(data):
                try:
                    unpack(header, data[place + HEADER.size : end])
                except SliceUnusable:
                    place += 1
                    continue
                return place
        place += 1
    return len(data)
