"""The collector's folder on disk, held by one collector at a time."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from holdfast_collector.errors import AlreadyRunning, ConfigInvalid

DATABASE = "collector.db"


@contextlib.contextmanager
def held(path: Path) -> Iterator[Path]:
    """The folder, made if need be, ours until the end of the `with`; a crash lets go of it, too.

    Raises ConfigInvalid when it cannot be made or written, AlreadyRunning when another process holds it.
    """
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
        handle = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o640)
    except OSError as error:
        raise ConfigInvalid(
            [f"data_dir {path}: {error.strerror}: it must be a folder the collector may write to"]
        ) from error
    try:
        _lock(handle, path)
        yield path
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise AlreadyRunning(
            f"another collector works in {path}: stop it first, or give this one its own data_dir"
        ) from None
