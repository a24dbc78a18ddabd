"""Durability classes on the pages: a volume's with its reason, a node's as a tally.

A class is no trouble by itself – a temporary disk is meant to be D1 –, so nothing here is called bad. What nobody
knows is called unknown.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from holdfast_collector.web.words import plain
from holdfast_wire.message import Value

MEANINGS = {
    0: "volatile",
    1: "goes with the host",
    2: "outlives the host",
    3: "redundant",
    4: "recoverable elsewhere",
}


class DurabilityView(Struct, frozen=True):
    """What one volume survives."""

    text: str
    tone: str
    why: str


def durability(facts: Mapping[str, Value]) -> DurabilityView:
    """`D2, outlives the host`, and why; the operator's word is marked as such."""
    why = plain(str(facts.get("durability_class_reason", "")))
    level = facts.get("durability_class")
    if level not in MEANINGS:
        return DurabilityView("unknown", "unknown", why)
    text = f"D{level}, {MEANINGS[int(level)]}"
    if facts.get("durability_class_declared") is True:
        text += " (declared)"
    return DurabilityView(text, "plain", why)


def tally(volumes: Iterable[Mapping[str, Value]]) -> str:
    """`2 × D2, 1 × D1, 1 unknown` over the volumes that take writes; empty when there are none."""
    counts: dict[int, int] = {}
    unknown = 0
    for facts in volumes:
        if facts.get("writable") is False:
            continue
        level = facts.get("durability_class")
        if level in MEANINGS:
            counts[int(level)] = counts.get(int(level), 0) + 1
        else:
            unknown += 1
    parts = [f"{counts[level]} × D{level}" for level in sorted(counts, reverse=True)]
    return ", ".join([*parts, f"{unknown} unknown"] if unknown else parts)
