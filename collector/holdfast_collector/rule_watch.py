"""Notices that an operator's rule packs changed on disk.

By looking now and then: inotify knows nothing of network filesystems, and of a folder that does not exist yet. A change
counts when it has stood still for one more look, so that half a copy is not taken for a pack.
"""

from collections.abc import Sequence
from pathlib import Path

LOOK_SECONDS = 2.0

Signature = tuple[tuple[str, int, int, int], ...]
"""(path, inode, size, time of change in nanoseconds) of each pack."""


class RuleWatch:
    """What the packs looked like when they were last taken."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._taken = self._seen = signature(folders)

    def changed(self, folders: Sequence[str]) -> bool:
        """Whether the packs are not what was last taken, and the same as at the last look. They then count as taken."""
        before, self._seen = self._seen, signature(folders)
        if self._seen == self._taken or self._seen != before:
            return False
        self._taken = self._seen
        return True


def signature(folders: Sequence[str]) -> Signature:
    """The packs of these folders as they stand on disk. What cannot be looked at is not there."""
    found = []
    for folder in folders:
        for path in sorted(Path(folder).glob("*.yaml")):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((str(path), status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
