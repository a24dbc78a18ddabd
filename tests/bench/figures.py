"""How benches state figures: percentiles, a markdown table, and the machine they hold for."""

import json
import os
import platform
import statistics
import timeit
from collections.abc import Sequence
from pathlib import Path

MB = 1_000_000


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all are not above: nearest rank, never a made-up value."""
    ranked = sorted(values)
    return ranked[max(0, -(-int(share * 1_000_000) * len(ranked) // 1_000_000) - 1)]


_MESSAGE = json.dumps(
    {
        "node": "n" * 40,
        "at": 1763800000.125,
        "facts": {f"fact_{number}": number * 1.5 for number in range(18)},
    }
)
_LOADS = 2000


def yardstick() -> float:
    """Seconds that `json.loads` of a 400-byte message takes here and now: the median of nine.

    Virtual machines change their speed by a factor of three with their neighbours. Two figures per CPU-second can be
    compared only after both were multiplied by the yardstick of their hour.
    """
    return statistics.median(timeit.repeat(lambda: json.loads(_MESSAGE), number=_LOADS, repeat=9)) / _LOADS


def machine() -> str:
    """One line: processor, system, Python, how fast the machine is now, and how busy before we began."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} × {_processor()}, Linux {platform.release()}, Python {platform.python_version()};"
        f" load average {load}; yardstick {yardstick() * 1e6:.1f} µs"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def print_heading(title: str) -> None:
    """A table's title and the machine, printed before the measuring begins so that a reader sees the load it began at."""
    print(f"\n## {title}\n\n{machine()}\n", flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A markdown table; text columns to the left, figures as they were formatted."""
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)


def milliseconds(seconds: float) -> str:
    """With three figures, e.g. `0.92 ms`, `43 ms`, `5,900 ms`."""
    value = seconds * 1000.0
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f} ms"


def ratio(ours: float, peers: float) -> str:
    """How many times `peers` is `ours`."""
    if ours <= 0:
        return "–"
    value = peers / ours
    return f"{value:,.0f}×" if value >= 10 else f"{value:.2g}×"
