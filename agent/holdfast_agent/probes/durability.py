"""What a device or filesystem survives by the medium it ends on, and how that combines over layers.

The classes are those of the durability catalogue, section 0: D0 volatile, D1 lost with the host, D2 one volume that
outlives it, D3 redundant. Combinations are its sections C2 and F2.

A class that nobody knows is None, and stays None unless what is known settles the answer:

- a stripe with a host-local member is host-local, whatever the others are: they can only make it worse;
- a mirror with a leg that outlives the host outlives it, whatever the other leg is.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

VOLATILE, HOST_LOCAL, PERSISTENT, REDUNDANT, RECOVERABLE = range(5)
CLASSES = ("D0", "D1", "D2", "D3", "D4")


class Medium(Struct, frozen=True):
    """A kind of medium."""

    word: str
    """As the fact `medium` has it."""
    level: int | None
    one: str
    """Completes "sda is …"."""
    many: str
    """Completes "both …"."""


class Standing(Struct, frozen=True, kw_only=True):
    """The class of a device or filesystem, and why."""

    level: int | None
    """0 to 4; None: unknown."""
    chain: str
    """`md0 (raid1) on sda, sdb`."""
    leaves: dict[str, Medium]
    """The devices it ends on, in order, with what they are."""
    note: str = ""
    """What the chain and the leaves do not show."""
    declared: bool = False
    """The class, or one it comes from, is the operator's word."""

    @property
    def reason(self) -> str:
        """One sentence: the chain, what it ends on, what else counts."""
        said = [self.chain, _said_of(self.leaves, self.chain)]
        return ": ".join(part for part in said if part) + (f"; {self.note}" if self.note else "")


def missing(count: int, of: str = "its members") -> str:
    """`2 of its members are missing`; empty for none."""
    return f"{count} of {of} {'is' if count == 1 else 'are'} missing" if count else ""


def leaf(name: str, medium: Medium) -> Standing:
    """A device that rests on nothing else."""
    return Standing(level=medium.level, chain=name, leaves={name: medium})


def nowhere(chain: str, note: str, level: int | None = None) -> Standing:
    """Something that ends on no device of this machine."""
    return Standing(level=level, chain=chain, leaves={}, note=note)


def renamed(below: Standing, name: str) -> Standing:
    """The same under another name: a partition of its disk."""
    return structs.replace(below, chain=name)


def declared(name: str, found: Standing, level: int) -> Standing:
    """The operator's word instead of what was found."""
    note = f"declared {CLASSES[level]} in the configuration"
    return structs.replace(found, level=level, chain=found.chain or name, note=note, declared=True)


def weakest(name: str, layer: str, members: Sequence[Standing], note: str = "") -> Standing:
    """What needs all its members: a stripe, a concatenation, one device on another."""
    levels = [member.level for member in members]
    level = _least(levels)
    if level and None in levels:
        note = _joined(note, f"{CLASSES[level]} at most, for not all of it is known")
    return _over(name, layer, members, level, note)


def mirrored(
    name: str, layer: str, members: Sequence[Standing], *, copies: int = 0, note: str = ""
) -> Standing:
    """What keeps `copies` copies of everything, or one on each member.

    With fewer copies than members some data lies on the worst of them only.
    """
    legs = sorted(members, key=_rank)[: copies or len(members)]
    known = [leg.level for leg in legs if leg.level is not None]
    best = max(known, default=None)
    if best is not None and best < PERSISTENT and len(known) < len(legs):
        best = None
    lasting = [leg for leg in legs if leg.level is not None and leg.level >= PERSISTENT]
    if len(lasting) > 1 and _independent(lasting):
        best = max(best or 0, REDUNDANT)
    elif len(legs) > 1 and not _independent(legs):
        note = _joined(note, "its copies share a disk, so they are no redundancy")
    elif len(legs) > 1 and best == HOST_LOCAL:
        note = _joined(note, "both copies go with the host")
    if len(legs) == 1:
        note = _joined(note, "one copy is left")
    return _over(name, layer, members, best, note)


def parity(name: str, layer: str, members: Sequence[Standing], *, losses: int, note: str = "") -> Standing:
    """What still holds everything after `losses` more members are gone."""
    level = _least([member.level for member in members])
    if losses < 1:
        note = _joined(note, "no redundancy is left")
    elif not _independent(members):
        note = _joined(note, "its members share a disk, so they are no redundancy")
    elif level is not None and level >= PERSISTENT:
        level = max(level, REDUNDANT)
    return _over(name, layer, members, level, note)


def cached(name: str, layer: str, cache: Standing, origin: Standing, mode: str) -> Standing:
    """A cache before `origin`. Unless it is known to write through, what was written may lie in the cache alone."""
    if mode in _THROUGH:
        return weakest(name, layer, [origin], f"its cache {', '.join(cache.leaves)} writes through")
    told = "writes back" if mode else "may write back: its mode cannot be seen"
    return weakest(name, layer, [origin, cache], f"its cache {', '.join(cache.leaves)} {told}")


_THROUGH = frozenset({"writethrough", "writearound", "passthrough", "none"})


def _over(name: str, layer: str, members: Sequence[Standing], level: int | None, note: str) -> Standing:
    notes = dict.fromkeys([note, *(member.note for member in members)])
    leaves: dict[str, Medium] = {}
    for member in members:
        leaves.update(member.leaves)
    rests = ", ".join(_bracketed(member.chain, alone=len(members) == 1) for member in members)
    head = f"{name} ({layer})" if layer else name
    return Standing(
        level=level,
        chain=f"{head} on {rests}" if rests else head,
        leaves=leaves,
        note="; ".join(text for text in notes if text),
        declared=any(member.declared for member in members),
    )


def _bracketed(chain: str, *, alone: bool) -> str:
    return chain if alone or " on " not in chain else f"[{chain}]"


def _joined(note: str, more: str) -> str:
    return f"{note}; {more}" if note else more


def _least(levels: Sequence[int | None]) -> int | None:
    known = [level for level in levels if level is not None]
    least = min(known, default=None)
    if len(known) == len(levels) or (least is not None and least <= HOST_LOCAL):
        return least
    return None


def _rank(standing: Standing) -> int:
    return -1 if standing.level is None else standing.level


def _independent(members: Iterable[Standing]) -> bool:
    """Whether no device holds a part of two of them."""
    seen: set[str] = set()
    for member in members:
        if not member.leaves or seen & member.leaves.keys():
            return False
        seen |= member.leaves.keys()
    return True


def _said_of(leaves: dict[str, Medium], chain: str) -> str:
    """`both managed disks of Azure`, or each by its name where they differ."""
    kinds = set(leaves.values())
    if len(kinds) == 1:
        [kind] = kinds
        if len(leaves) == 1:
            [name] = leaves
            return kind.one if name in chain else f"{name} is {kind.one}"
        return f"{'both' if len(leaves) == 2 else 'all'} {kind.many}"
    return ", ".join(f"{name} is {kind.one}" for name, kind in leaves.items())
