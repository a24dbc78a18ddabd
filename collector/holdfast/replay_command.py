"""`holdfast rules replay`: recorded days under changed rules.

Exit codes: 0 no difference; 1 people would have been told otherwise; 2 a pack, time or recording that cannot be used.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from holdfast.api import CollectorApi, Refused, Unreachable
from holdfast.difference import Difference, difference
from holdfast.difference_lines import difference_lines, span, stamp
from holdfast.terminal import printable
from holdfast_collector.config import Config, labels
from holdfast_collector.config import load as load_config
from holdfast_collector.errors import ConfigInvalid
from holdfast_collector.group_config import declared
from holdfast_collector.packs import shipped_packs, user_packs
from holdfast_collector.replay import WARM_UP_SECONDS, Replay, during
from holdfast_collector.samples.files import FOLDER, Damage, files, read
from holdfast_collector.samples.recorder import SLICE_SECONDS
from holdfast_collector.samples.slice import Slice
from holdfast_rules import PackError, RuleSet, load
from holdfast_rules.changes import fits
from holdfast_wire.configuring import duration_seconds

UNWRITTEN_SECONDS = 2 * SLICE_SECONDS
"""What a running collector has not written yet is no news."""


class Asked(Struct, frozen=True, kw_only=True):
    """What is to be compared."""

    since: float
    until: float
    packs: tuple[str, ...]
    against: str
    """`running` or `shipped`."""
    nodes: tuple[str, ...]
    """Patterns; empty: all."""
    store: Path | None
    """The collector's `data_dir`, or a copy of it; None: where the configuration says."""
    config: Path
    config_required: bool
    as_json: bool


class Unusable(Exception):
    """The user's mistake, in words."""


class _Answer(Struct, frozen=True, kw_only=True):
    """The machine's form of the difference."""

    since: float
    until: float
    nodes: int
    messages: int
    notices: list[str]
    """What the comparison does not know."""
    difference: Difference


def instant(text: str, now: float) -> float:
    """`now`, `-2h`, or RFC 3339 with its zone, as Unix seconds. Raises ValueError."""
    if text == "now":
        return now
    if text.startswith("-"):
        seconds = duration_seconds(text[1:])
        if seconds is None:
            raise ValueError(f"{text!r} is no time: write -90s, -2h, -1d12h")
        return now - seconds
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 2026-11-24T08:00:00Z, -2h or now") from None
    if at.tzinfo is None:
        raise ValueError(f"{text!r} does not say its zone: write {text}Z for UTC")
    return at.astimezone(UTC).timestamp()


def replay(asked: Asked, api: CollectorApi | None) -> int:
    """Compare and print; the exit code. With `api` the recording is fetched from a running collector."""
    try:
        config = load_config(asked.config, required=asked.config_required, environment=os.environ)
        before, after = _rules(asked, config)
        with _recording(
            asked, config, api, max(rules.lookback_seconds for rules in (before, after))
        ) as folder:
            answer = _compared(asked, config, folder, before, after)
    except (PackError, ConfigInvalid) as error:
        for mistake in error.mistakes:
            print(mistake, file=sys.stderr)
        return 2
    except (Unusable, OSError) as error:
        print(f"holdfast rules replay: {printable(str(error))}", file=sys.stderr)
        return 2
    except (Unreachable, Refused) as error:
        print(f"holdfast rules replay: {printable(str(error))}", file=sys.stderr)
        return 1
    if asked.as_json:
        print(msgspec.json.format(msgspec.json.encode(answer).decode(), indent=2))
    else:
        print(
            f"{stamp(answer.since)} to {stamp(answer.until)}: {answer.nodes} nodes, {answer.messages} messages"
        )
        for line in [*answer.notices, *difference_lines(answer.difference)]:
            print(printable(line))
    return 0 if answer.difference.empty else 1


def _compared(asked: Asked, config: Config, folder: Path, before: RuleSet, after: RuleSet) -> _Answer:
    lookback = max(before.lookback_seconds, after.lookback_seconds)
    since = max(asked.since, _oldest(folder, asked))
    damages: list[Damage] = []
    player = Replay(
        [before, after],
        declared(config.group, labels(config)),
        wanted=lambda node: not asked.nodes or any(fits(node, pattern) for pattern in asked.nodes),
    )
    player.play(_whole(read(folder, since - WARM_UP_SECONDS - lookback, asked.until), damages), asked.until)
    if not player.messages:
        whom = f" of {', '.join(asked.nodes)}" if asked.nodes else ""
        raise Unusable(f"nothing{whom} is recorded from {stamp(since)} to {stamp(asked.until)}")
    until = min(asked.until, player.at)
    if until < since:
        raise Unusable(f"nothing is recorded from {stamp(since)} on: the newest is of {stamp(until)}")
    episodes = [during(found, since, until) for found in player.episodes]
    return _Answer(
        since=since,
        until=until,
        nodes=len(player.nodes),
        messages=player.messages,
        notices=_notices(asked, folder, lookback, damages, player),
        difference=difference(*episodes),
    )


def _whole(pieces: Iterator[Slice | Damage], damages: list[Damage]) -> Iterator[Slice]:
    for piece in pieces:
        if isinstance(piece, Damage):
            damages.append(piece)
            continue
        if sys.stderr.isatty():
            print(f"\rplaying {stamp(piece.began_at)} ", end="", file=sys.stderr, flush=True)
        yield piece
    if sys.stderr.isatty():
        print("\r" + " " * 40, end="\r", file=sys.stderr, flush=True)


def _oldest(folder: Path, asked: Asked) -> float:
    found = files(folder)
    if not found:
        raise Unusable(
            f"nothing is recorded in {folder}: is this the collector's data_dir, and retention.samples set?"
        )
    oldest = found[0][0]
    if oldest > asked.until:
        raise Unusable(f"nothing is recorded up to {stamp(asked.until)}: the oldest is of {stamp(oldest)}")
    return oldest


def _notices(
    asked: Asked, folder: Path, lookback: float, damages: Sequence[Damage], player: Replay
) -> list[str]:
    """What a reader must know before he trusts the comparison."""
    oldest = _oldest(folder, asked)
    found = []
    if oldest > asked.since:
        found.append(f"note: recorded since {stamp(oldest)} only")
    if player.at < asked.until - UNWRITTEN_SECONDS:
        found.append(f"note: recorded until {stamp(player.at)} only")
    if oldest > asked.since - lookback - WARM_UP_SECONDS:
        known = stamp(oldest + lookback + WARM_UP_SECONDS)
        found.append(
            f"note: rules that look back ({span(lookback)} at most) may answer unknown until {known}"
        )
    found += [
        f"note: nothing is known from {stamp(gap.since)} to {stamp(gap.until)} ({span(gap.until - gap.since)})"
        for gap in player.gaps
        if gap.until >= asked.since
    ]
    return found + [f"damaged: {damage}" for damage in damages]


@contextlib.contextmanager
def _recording(asked: Asked, config: Config, api: CollectorApi | None, lookback: float) -> Iterator[Path]:
    """The folder of samples: the collector's own, or what was fetched of it."""
    if api is None:
        store = asked.store or Path(config.data_dir)
        store = store.parent if store.is_file() else store
        inner = store / FOLDER
        yield inner if inner.is_dir() else store
        return
    with tempfile.TemporaryDirectory(prefix="holdfast-replay-") as name:
        folder = Path(name)
        rows = api.get("/api/v1/samples")["files"]
        since = asked.since - WARM_UP_SECONDS - lookback
        for number, row in enumerate(rows):
            ends = rows[number + 1]["since"] if number + 1 < len(rows) else asked.until
            if row["since"] <= asked.until and ends >= since:
                safe = Path(str(row["name"])).name
                (folder / safe).write_bytes(api.fetch(f"/api/v1/samples/{safe}"))
        if rows and not files(folder):
            raise Unusable(
                f"nothing is recorded up to {stamp(asked.until)}: the oldest is of {stamp(rows[0]['since'])}"
            )
        yield folder


def _rules(asked: Asked, config: Config) -> tuple[RuleSet, RuleSet]:
    """The rules before and after. A changed file takes the place of the one that has its name."""
    shipped = shipped_packs()
    own = user_packs(path for folder in config.rules.directories if (path := Path(folder)).exists())
    running = {**shipped, **own} if config.rules.shipped else own
    before = shipped if asked.against == "shipped" else running
    if not asked.packs and asked.against == "running":
        raise Unusable("nothing to compare with: give --pack FILE, or --against shipped")
    changed = user_packs(map(Path, asked.packs))
    names = {Path(name).name for name in changed}
    kept = {name: text for name, text in before.items() if Path(name).name not in names}
    after = {**kept, **changed} if asked.packs else running
    rows = labels(config)
    return load(before).labelled(rows), load(after).labelled(rows)
