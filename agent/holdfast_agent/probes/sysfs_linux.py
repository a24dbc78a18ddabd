"""Attributes of sysfs, as text."""

import fnmatch
import os
from collections.abc import Iterable
from pathlib import Path

from holdfast_agent.probes.small_file import read_small


def attributes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Name → text without its newline, for those that are there and can be read."""
    found = {}
    for name in names:
        try:
            found[name] = read_small(f"{folder}/{name}").strip("\0\n ")
        except OSError:
            continue  # not of this kernel or kind of device, or gone between listing and reading
    return found


def names_in(folder: Path, pattern: str = "*") -> list[str]:
    """The names below a folder, sorted; none when it is not there."""
    try:
        return sorted(fnmatch.filter(os.listdir(folder), pattern))
    except OSError:
        return []


def number(text: str | None) -> int | None:
    """A whole number, or None for anything else."""
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
