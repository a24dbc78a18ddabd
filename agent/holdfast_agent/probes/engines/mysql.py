"""MySQL and MariaDB: data directory, binary log, redo and undo, Aria log, temporary files, keys.

Option files are read in the order of the manuals ("Using Option Files"; mysqld --help --verbose), the later line wins,
and the command line over all. `-` and `_` in names are the same. Paths that are relative are relative to the data
directory. MySQL 8 keeps its redo log in `#innodb_redo` and its binary log is on by default; MariaDB's is off.
"""

import posixpath
import re

from holdfast_agent.probes.engines.engine import (
    COMMAND_LINE,
    CONFIGURATION,
    DEFAULT,
    Discovery,
    Engine,
    Files,
    Found,
    Running,
)
from holdfast_agent.probes.engines.option_text import ini, option
from holdfast_agent.probes.state_roles import Role

_FILES_MAX = 100
_LINKS_MAX = 200
_SERVER = re.compile(r"(?:mysqld|server|mariadb|mariadbd|galera)(?:-[\d.]+)?")
_PLACES: tuple[tuple[str, Role, bool], ...] = (
    ("innodb_log_group_home_dir", "wal", False),
    ("innodb_undo_directory", "data", False),
    ("innodb_data_home_dir", "data", False),
    ("aria_log_dir_path", "wal", False),
    ("log_bin", "binlog", True),
    ("log_bin_basename", "binlog", True),
    ("relay_log", "binlog", True),
    ("keyring_file_data", "keys", True),
    ("file_key_management_filename", "keys", True),
    ("log_error", "log", True),
    ("slow_query_log_file", "log", True),
)
"""Option, role, and whether it names a file, of which the folder counts."""


def _runs(process: Running) -> bool:
    return process.program in ("mysqld", "mariadbd", "mysqld-debug", "mysqld_debug")


def _name(key: str) -> str:
    return key.lower().replace("-", "_").removeprefix("loose_")


class _Options:
    """The option files, in order."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._left = _FILES_MAX
        self.values: dict[str, tuple[str, str]] = {}
        """Option → value, and what it was found in."""

    def read(self, path: str) -> bool:
        text = self._files.text(path)
        if text is None or self._left <= 0:
            return text is not None
        self._left -= 1
        kept: list[str] = []
        for line in text.splitlines():
            word, _, target = line.strip().partition(" ")
            if word not in ("!include", "!includedir"):
                kept.append(line)
                continue
            self._take("\n".join(kept))
            section = next((each for each in reversed(kept) if each.strip().startswith("[")), "")
            kept = [section]
            target = target.strip().rstrip("/") or "/"
            if word == "!include":
                self.read(target)
                continue
            for name in sorted(self._files.names(target) or ()):
                if name.endswith((".cnf", ".ini")):
                    self.read(posixpath.join(target, name))
        self._take("\n".join(kept))
        return True

    def _take(self, text: str) -> None:
        for section, key, value in ini(text):
            if _SERVER.fullmatch(section):
                self.put(_name(key), value, CONFIGURATION)

    def put(self, name: str, value: str, source: str) -> None:
        if name.startswith("skip_"):
            self.values.pop(name.removeprefix("skip_"), None)
        self.values[name] = (value, source)

    def get(self, name: str) -> tuple[str, str]:
        return self.values.get(name, ("", ""))


def _files_of(process: Running) -> list[str]:
    arguments = process.arguments
    if "--no-defaults" in arguments:
        return []
    if (only := option(arguments, "--defaults-file")) is not None:
        return [only]
    listed = ["/etc/my.cnf", "/etc/mysql/my.cnf", "/usr/etc/my.cnf"]
    if home := process.environment.get("MYSQL_HOME"):
        listed.append(f"{home}/my.cnf")
    if extra := option(arguments, "--defaults-extra-file"):
        listed.append(extra)
    return listed


def _read_all(process: Running, files: Files) -> tuple[_Options, bool]:
    """The options in force, and whether any option file could be read that should be."""
    options = _Options(files)
    wanted = _files_of(process)
    read = [options.read(path) for path in wanted]
    for argument in process.arguments[1:]:
        if argument.startswith("--"):
            key, _, value = argument[2:].partition("=")
            options.put(_name(key), value, COMMAND_LINE)
    for short, long in (("-h", "datadir"), ("-t", "tmpdir")):
        if (given := option(process.arguments, short)) is not None:
            options.put(long, given, COMMAND_LINE)
    return options, not wanted or any(read)


def _find(process: Running, files: Files) -> Discovery:
    options, read = _read_all(process, files)
    missing = [] if read else ["no option file can be read; what they set is not known"]
    data, source = options.get("datadir")
    if not data:
        data, source = "/var/lib/mysql", DEFAULT
    data = process.absolute(data)
    paths = [
        Found(path=data, role="data", source=source, confidence="high" if source != DEFAULT else "medium")
    ]
    for name, role, is_file in _PLACES:
        value, source = options.get(name)
        if not value or (name == "innodb_data_home_dir" and value == "/"):
            continue
        place = posixpath.normpath(posixpath.join(data, value))
        place = posixpath.dirname(place) if is_file and role != "keys" else place
        if place != data:
            paths.append(Found(path=place, role=role, source=source))
    temporary, source = options.get("tmpdir")
    if not temporary:
        temporary, source = process.environment.get("TMPDIR", "/tmp"), DEFAULT
    paths += [Found(path=process.absolute(each), role="temp", source=source) for each in temporary.split(":")]
    names = files.names(data)
    if names is None:
        missing.append(f"{data} cannot be listed; databases that are links to elsewhere are not known")
    paths += [
        Found(path=posixpath.join(data, name), role="tablespace", source=CONFIGURATION)
        for name in sorted(names or ())[:_LINKS_MAX]
        if files.link(posixpath.join(data, name)) is not None
    ]
    unsynced = options.get("innodb_flush_method")[0].lower() in ("nosync", "littlesync")
    return Discovery(
        paths=tuple(paths),
        missing=tuple(missing),
        syncs_disabled_by="innodb_flush_method = nosync" if unsynced else "",
    )


ENGINE = Engine(name="mysql", runs=_runs, find=_find, disposable=re.compile(r".*/(?:ib|ML|MY|#sql)[^/]*"))
