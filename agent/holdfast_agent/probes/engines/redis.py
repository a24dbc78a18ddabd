"""Redis, Valkey and KeyDB: the one directory that has the snapshot and the append-only files.

The server changes into `dir` (`chdir` in src/config.c) and overwrites its command line with a title, so the working
directory is the answer, and the configuration file is known from how the service manager started it. One that neither
saves nor appends is a cache, and nothing of it need last.
"""

import posixpath

from holdfast_agent.probes.engines.engine import (
    CONFIGURATION,
    DEFAULT,
    WORKING_DIRECTORY,
    Discovery,
    Engine,
    Files,
    Found,
    Running,
    unquoted,
)
from holdfast_agent.probes.state_roles import Role

_NAMES = ("redis-server", "valkey-server", "keydb-server", "redis-sentinel", "valkey-sentinel")
_INCLUDES_MAX = 20


def _runs(process: Running) -> bool:
    words = _title(process)
    return bool(words) and posixpath.basename(words[0]) in _NAMES and "sentinel" not in " ".join(words)


def _title(process: Running) -> list[str]:
    """The command line's words. The title is one text: "/usr/bin/redis-server 127.0.0.1:6379"."""
    return " ".join(process.arguments).split()


def _words(process: Running) -> tuple[str, ...]:
    """The arguments it was given: its own, unless a title has taken their place. Empty when nobody knows them."""
    words = _title(process)
    titled = len(words) <= 1 or ":" in words[1]
    return process.started_as if titled else process.arguments


def _read(files: Files, path: str, settings: dict[str, list[str]], left: list[int]) -> bool:
    text = files.text(path)
    if text is None or left[0] <= 0:
        return False
    left[0] -= 1
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        if name.lower() == "include" and "*" not in value:
            _read(files, unquoted(value), settings, left)
        else:
            settings.setdefault(name.lower(), []).append(unquoted(value))
    return True


def _find(process: Running, files: Files) -> Discovery:
    words = _words(process)
    settings: dict[str, list[str]] = {}
    missing = []
    config = words[1] if len(words) > 1 and not words[1].startswith("-") and ":" not in words[1] else ""
    # Without a file its options are all there is: the others have their defaults.
    read = _read(files, process.absolute(config), settings, [_INCLUDES_MAX]) if config else bool(words)
    if not read:
        what = f"{config} cannot be read" if config else "no configuration file is known"
        missing.append(f"{what}; whether the server saves anything is not known")
    for index, word in enumerate(words):
        if word.startswith("--") and index + 1 < len(words):
            settings.setdefault(word[2:].lower(), []).append(words[index + 1])
    given = settings.get("dir", [""])[-1]
    if process.directory not in ("", "/"):
        data, source = process.directory, WORKING_DIRECTORY
    elif given:
        data, source = process.absolute(given), CONFIGURATION
    elif read:
        data, source = process.directory or "/", DEFAULT
    else:
        return Discovery(missing=(*missing, "neither its working directory nor its files name its directory"))
    appends = settings.get("appendonly", ["no"])[-1].lower() == "yes"
    saves = settings.get("save")
    cache = not appends and (saves is not None and not any(saves))
    paths = [Found(path=data, role="cache" if cache else "data", source=source)]
    if appends or "appendonlydir" in (files.names(data) or ()):
        folder = settings.get("appenddirname", ["appendonlydir"])[-1]
        paths.append(Found(path=posixpath.join(data, folder), role="wal", source=source))
    places: tuple[tuple[str, Role], ...] = (("logfile", "log"), ("aclfile", "keys"))
    for name, role in places:
        if value := settings.get(name, [""])[-1]:
            paths.append(Found(path=posixpath.join(data, value), role=role, source=CONFIGURATION))
    return Discovery(paths=tuple(paths), missing=tuple(missing))


ENGINE = Engine(name="redis", runs=_runs, find=_find)
