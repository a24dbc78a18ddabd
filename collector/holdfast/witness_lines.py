"""What a node's volumes promised and kept, in lines for a person. The answer of `/api/v1/witness` in, text out."""

from collections.abc import Iterator, Sequence
from typing import Any

from holdfast.standing import duration

_EVENTS = {
    "agent_restart": "agent restart",
    "remount": "remount",
    "clean_reboot": "clean reboot",
    "guest_crash": "guest crash",
    "host_move": "move to another host",
    "host_crash": "host crash",
}


def lost(volumes: Sequence[Any]) -> bool:
    """Whether a volume broke a promise and nobody has taken note."""
    return any(breach["acknowledged_at"] is None for volume in volumes for breach in volume["breaches"])


def witness_lines(answer: Any, now: float) -> list[str]:
    """One block per volume: the newest promise, what was survived, what was lost with its evidence."""
    volumes = answer["volumes"]
    if not volumes:
        return [f"{answer['node']}: no volume has ever been witnessed"]
    lines = []
    if answer["restore_announced_until"]:
        left = duration(answer["restore_announced_until"] - now)
        lines.append(f"a restore is announced for another {left}: what is lost until then is measured only")
    for volume in volumes:
        lines += _volume(volume, now)
    return lines


def _volume(volume: Any, now: float) -> Iterator[str]:
    yield volume["volume"]
    yield f"  chain     {volume['chain_id'] or 'none'}, {volume['state']}"
    if volume["confirmed_at"]:
        lag = duration(volume["lag_seconds"])
        yield f"  head      record {volume['seq']}, confirmed {lag} ago: what a crash now could take unseen"
    if volume["read_at"]:
        mode = {"direct": "from the medium", "buffered": "past the cache by advice only"}.get(
            volume["read_mode"], "read"
        )
        yield f"  read      {duration(now - volume['read_at'])} ago, {mode}"
    if volume["fsync_p50_seconds"] is not None:
        p50, p99 = volume["fsync_p50_seconds"] * 1000, volume["fsync_p99_seconds"] * 1000
        yield f"  fsync     {p50:.1f} ms, one in a hundred {p99:.1f} ms"
    if volume["suspicion"]:
        yield f"  suspected {volume['suspicion']}; a second read is awaited"
    for place, one in enumerate(volume["survived"]):
        tested = f"{duration(now - one['at'])} ago, {one['count']} in all" if one["at"] else "never tested"
        yield f"  {'survived ' if place == 0 else '         '} {_EVENTS[one['event']]}: {tested}"
    for breach in volume["breaches"]:
        yield from _breach(breach, now)


def _breach(breach: Any, now: float) -> Iterator[str]:
    amount = f": {breach['records']} records, {duration(breach['seconds'])}" if breach["records"] else ""
    yield f"  {'LOST' if breach['loss'] else 'broke':9} {breach['kind'].replace('_', ' ')}{amount}, {duration(now - breach['at'])} ago"
    yield f"            {breach['evidence']}"
    if breach["acknowledged_at"]:
        yield f"            {'announced' if breach['announced'] else 'acknowledged'}: {breach['reason']}"
