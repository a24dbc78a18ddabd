"""SQL Server on Linux: the directories of mssql.conf, section [filelocation], and their defaults below /var/opt/mssql.

Where single databases have their files only the server itself knows (sys.master_files); these are the directories in which
they are created unless told otherwise (Microsoft Learn, "Configure SQL Server on Linux with the mssql-conf tool").
"""

import posixpath

from holdfast_agent.probes.engines.engine import (
    CONFIGURATION,
    DEFAULT,
    Discovery,
    Engine,
    Files,
    Found,
    Running,
)
from holdfast_agent.probes.engines.option_text import ini
from holdfast_agent.probes.state_roles import Role

_HOME = "/var/opt/mssql"
_PLACES: tuple[tuple[str, str, Role, bool], ...] = (
    ("defaultdatadir", f"{_HOME}/data", "data", False),
    ("defaultlogdir", f"{_HOME}/data", "wal", False),
    ("masterdatafile", f"{_HOME}/data/master.mdf", "data", True),
    ("masterlogfile", f"{_HOME}/data/mastlog.ldf", "wal", True),
    ("errorlogfile", f"{_HOME}/log/errorlog", "log", True),
)
"""Key, default, role, and whether it names a file, of which the folder counts."""


def _runs(process: Running) -> bool:
    return process.program == "sqlservr"


def _find(process: Running, files: Files) -> Discovery:
    text = files.text(f"{_HOME}/mssql.conf")
    missing: tuple[str, ...] = ()
    if text is None and files.names(_HOME) is None:
        missing = (f"{_HOME}/mssql.conf cannot be read; directories it sets are not known",)
    set_ = {
        key.lower(): value for section, key, value in ini(text or "") if section.lower() == "filelocation"
    }
    paths: dict[tuple[str, Role], Found] = {}
    for key, default, role, is_file in _PLACES:
        place = set_.get(key) or default
        place = posixpath.dirname(place) if is_file else place
        source = CONFIGURATION if set_.get(key) else DEFAULT
        paths.setdefault((place, role), Found(path=place, role=role, source=source))
    paths[(f"{_HOME}/secrets", "keys")] = Found(path=f"{_HOME}/secrets", role="keys", source=DEFAULT)
    unique: dict[str, Found] = {}
    for found in paths.values():
        unique.setdefault(found.path, found)
    return Discovery(paths=tuple(unique.values()), missing=missing)


ENGINE = Engine(name="sqlserver", runs=_runs, find=_find)
