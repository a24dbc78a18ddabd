"""PostgreSQL: data directory, write-ahead log, tablespaces, server log, configuration.

The postmaster makes the data directory its working directory (`ChangeToDataDir` in src/backend/utils/init/miscinit.c),
so that is where it is, whatever files say. `pg_wal` and the links in `pg_tblspc` may lead anywhere. Debian keeps the
configuration apart, in /etc/postgresql. `postgresql.auto.conf` (ALTER SYSTEM) is read last and wins; the command
line wins over both (PostgreSQL manual, 20.1).
"""

import posixpath
import re

from holdfast_agent.probes.engines.engine import (
    COMMAND_LINE,
    CONFIGURATION,
    ENVIRONMENT,
    WORKING_DIRECTORY,
    Discovery,
    Engine,
    Files,
    Found,
    Running,
    unquoted,
)

_INCLUDES_MAX = 50
_LINE = re.compile(r"\s*([A-Za-z_][\w.]*)\s*[= ]\s*('(?:[^']|'')*'|[^#\s]+)")
_ARCHIVED = re.compile(r"(/[^\s'\"]*)/%f")
"""Where `archive_command` puts a segment: `cp %p /archive/%f`."""
_OFF = ("off", "false", "no", "0")


def _runs(process: Running) -> bool:
    # Children retitle themselves "postgres: checkpointer"; the postmaster keeps its command line.
    return process.program in ("postgres", "postmaster")


def _given(arguments: tuple[str, ...]) -> dict[str, str]:
    """Settings on the command line: -c name=value, --name=value."""
    given = {}
    for index, argument in enumerate(arguments):
        text = ""
        if argument == "-c" and index + 1 < len(arguments):
            text = arguments[index + 1]
        elif (argument.startswith("-c") and "=" in argument) or argument.startswith("--"):
            text = argument[2:]
        name, equals, value = text.partition("=")
        if equals:
            given[name.replace("-", "_").lower()] = value
    return given


def _read(files: Files, path: str, settings: dict[str, str], left: list[int]) -> bool:
    text = files.text(path)
    if text is None or left[0] <= 0:
        return False
    left[0] -= 1
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        name, value = match[1].lower(), unquoted(match[2]).replace("''", "'")
        beside = posixpath.join(posixpath.dirname(path), value)
        if name in ("include", "include_if_exists"):
            _read(files, beside, settings, left)
        elif name == "include_dir":
            for each in sorted(files.names(beside) or ()):
                if each.endswith(".conf") and not each.startswith("."):
                    _read(files, posixpath.join(beside, each), settings, left)
        else:
            settings[name] = value
    return True


def _find(process: Running, files: Files) -> Discovery:
    arguments = process.arguments
    given = _given(arguments)
    named = next((arguments[i + 1] for i, a in enumerate(arguments[:-1]) if a == "-D"), "")
    named = named or next((a[2:] for a in arguments if a.startswith("-D") and len(a) > 2), "")
    start = named or process.environment.get("PGDATA", "")
    config = given.get("config_file") or (posixpath.join(start, "postgresql.conf") if start else "")
    settings: dict[str, str] = {}
    missing = []
    left = [_INCLUDES_MAX]
    read = bool(config) and _read(files, process.absolute(config), settings, left)
    if config and not read:
        missing.append(f"{config} cannot be read; a data or log directory it names is not known")
    data, source = given.get("data_directory") or settings.get("data_directory", ""), CONFIGURATION
    if not data and process.directory not in ("", "/"):
        data, source = process.directory, WORKING_DIRECTORY
    if not data:
        data, source = (named, COMMAND_LINE) if named else (start, ENVIRONMENT)
    if not data:
        return Discovery(missing=("neither arguments, environment nor files name the data directory",))
    data = process.absolute(data)
    _read(files, posixpath.join(data, "postgresql.auto.conf"), settings, left)
    settings |= given
    paths = [
        Found(path=data, role="data", source=source),
        Found(path=posixpath.join(data, "pg_wal"), role="wal", source=source),
    ]
    spaces = files.names(posixpath.join(data, "pg_tblspc"))
    if spaces is None:
        missing.append(f"{data}/pg_tblspc cannot be listed; tablespaces outside {data} are not known")
    paths += [
        Found(path=posixpath.join(data, "pg_tblspc", space), role="tablespace", source=CONFIGURATION)
        for space in sorted(spaces or ())
    ]
    if settings.get("logging_collector", "off").lower() not in _OFF:
        log = posixpath.join(data, settings.get("log_directory", "log"))
        paths.append(Found(path=posixpath.normpath(log), role="log", source=CONFIGURATION))
    paths += _archives(settings)
    folder = posixpath.dirname(process.absolute(config)) if config else ""
    if folder and folder != data and not folder.startswith(data + "/"):
        paths.append(Found(path=folder, role="config", source=COMMAND_LINE))
    unsynced = "-F" in arguments or given.get("fsync", "on").lower() in _OFF
    return Discovery(
        paths=tuple(paths),
        missing=tuple(missing),
        syncs_disabled_by="fsync turned off on the command line" if unsynced else "",
    )


def _archives(settings: dict[str, str]) -> list[Found]:
    """Folders that finished segments of the log are copied to. Whether they are carried on from there nobody says."""
    if settings.get("archive_mode", "off").lower() in _OFF:
        return []
    folders = _ARCHIVED.findall(settings.get("archive_command", ""))
    folders += [settings.get("basic_archive.archive_directory", "")]
    return [
        Found(path=folder, role="backup", source=CONFIGURATION, confidence="medium")
        for folder in dict.fromkeys(folders)
        if folder.startswith("/") and folder != "/"
    ]


ENGINE = Engine(
    name="postgresql",
    runs=_runs,
    find=_find,
    # Segments of the log are removed while idle backends still have them open; sorts spill into pgsql_tmp.
    disposable=re.compile(r".*/(?:pg_wal|pg_xlog)/[^/]+|.*/pgsql_tmp[^/]*(?:/.*)?"),
)
