"""A volume's medium under a filesystem: what a write, a flush, a crash and a power cut leave of what was written.

    write ──▶ dirty (kernel) ──flush──▶ kept
                                 └─ a device that lies: its own cache, which reads as if it were kept ──idle──▶ kept

A crash of the guest takes what is dirty; a power cut takes the device's cache besides, from some write on, or here and
there where the device writes out in an order of its own. What is written over the medium's own truth: whoever judges looks at `holds` before and after.
"""

import random
from copy import copy

from holdfast_agent.core.chain import SLOT_BYTES, slot_hash

Content = object
"""Bytes for a slot of the ring; any value that is never changed in place for a file that is replaced whole."""
SETTLED_WRITES = 24
"""Writes that a lying device keeps in its cache; older ones have reached the medium by then."""


class Medium:
    """One volume. A slot of its ring is found by its number, a file by its name."""

    def __init__(
        self, filesystem_id: str, *, lies: bool, reorders: bool = False, forgets_renames: bool = False
    ) -> None:
        self.filesystem_id = filesystem_id
        self.lies = lies
        self.reorders = reorders
        """Its cache reaches the medium in an order of its own."""
        self.forgets_renames = forgets_renames
        """A power cut brings back the file that was renamed over, flushed folder or not."""
        self.kept: dict[int | str, Content] = {}
        self.cache: list[tuple[int | str, Content]] = []
        """Of the device: flushed, as it said."""
        self.dirty: dict[int | str, Content] = {}
        self.renamed_over: list[Content] = []

    def write(self, name: int | str, content: Content) -> None:
        """Into the kernel's cache."""
        self.dirty[name] = content

    def flush(self) -> None:
        """As fdatasync: after it, all is kept. Or so the device says."""
        for name, content in self.dirty.items():
            if name == "metadata" and "metadata" in self.kept:
                self.renamed_over.append(self.kept["metadata"])
            if self.lies:
                self.cache.append((name, content))
            else:
                self.kept[name] = content
        self.dirty.clear()
        while len(self.cache) > SETTLED_WRITES:
            name, content = self.cache.pop(0)
            self.kept[name] = content

    def read(self, name: int | str) -> Content:
        """What is read of it now; None where nothing was ever written."""
        if name in self.dirty:
            return self.dirty[name]
        return next(
            (content for known, content in reversed(self.cache) if known == name), self.kept.get(name)
        )

    def holds(self) -> frozenset[bytes]:
        """Hashes of the whole slots that are read now."""
        names = {*self.kept, *self.dirty, *(name for name, _ in self.cache)}
        slots = (self.read(name) for name in names if isinstance(name, int))
        return frozenset(
            slot_hash(slot) for slot in slots if isinstance(slot, bytes) and len(slot) == SLOT_BYTES
        )

    # ---- what befalls it -----------------------------------------------------------------------------------------

    def guest_crash(self, rng: random.Random) -> None:
        """The kernel is gone, the host lives: of what was dirty each write is there, half there or not there."""
        for name, content in self.dirty.items():
            fate = rng.random()
            if fate < 0.3:
                self.kept[name] = content
            elif fate < 0.5 and isinstance(content, bytes):
                self.kept[name] = torn(content, self.read_below(name), rng)
        self.dirty.clear()

    def power_cut(self, rng: random.Random) -> None:
        """The device's cache is gone, too, from some write on; that write may have been under way."""
        self.guest_crash(rng)
        if self.reorders:
            self.cache = [each for each in self.cache if rng.random() < 0.5]
        survive = len(self.cache) if self.reorders else rng.randint(0, len(self.cache))
        for name, content in self.cache[:survive]:
            self.kept[name] = content
        if survive < len(self.cache) and rng.random() < 0.3:
            name, content = self.cache[survive]
            if isinstance(content, bytes):
                self.kept[name] = torn(content, self.kept.get(name), rng)
        self.cache.clear()
        if self.forgets_renames and self.renamed_over:
            self.kept["metadata"] = self.renamed_over[-1]

    def read_below(self, name: int | str) -> Content:
        """What is read once the kernel's cache is gone."""
        return next(
            (content for known, content in reversed(self.cache) if known == name), self.kept.get(name)
        )

    def snapshot(self) -> "Medium":
        """A copy of what the device holds at this moment; the guest's caches are not in it."""
        twin = copy(self)
        twin.kept = dict(self.kept)
        for name, content in self.cache:
            twin.kept[name] = content
        twin.cache, twin.dirty, twin.renamed_over = [], {}, list(self.renamed_over)
        return twin

    def with_caches(self) -> "Medium":
        """A copy with all that a snapshot of the machine's memory holds of it."""
        twin = self.snapshot()
        twin.dirty = dict(self.dirty)
        return twin


def torn(new: bytes, old: Content, rng: random.Random) -> bytes:
    """The first sectors of a write over what was there before."""
    below = old if isinstance(old, bytes) else bytes(SLOT_BYTES)
    cut = 512 * rng.randrange(1, SLOT_BYTES // 512)
    return new[:cut] + below[cut:]
