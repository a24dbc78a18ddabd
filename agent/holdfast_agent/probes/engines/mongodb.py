"""MongoDB: data directory with its journal, key file, log.

`storage.dbPath` of the YAML file or `dbpath` of the old form; the command line wins. The default is /data/db.
"""

import posixpath

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
from holdfast_agent.probes.engines.option_text import ini, option, yaml_values
from holdfast_agent.probes.state_roles import Role

_PLACES: tuple[tuple[tuple[str, ...], str, Role], ...] = (
    (("security.keyFile", "keyFile"), "--keyFile", "keys"),
    (("security.encryptionKeyFile",), "--encryptionKeyFile", "keys"),
    (("systemLog.path", "logpath"), "--logpath", "log"),
)


def _runs(process: Running) -> bool:
    return process.program == "mongod"


def _find(process: Running, files: Files) -> Discovery:
    arguments = process.arguments[1:]
    config = option(arguments, "--config", "-f")
    values: dict[str, str] = {}
    missing = []
    if config:
        text = files.text(process.absolute(config))
        if text is None:
            missing.append(f"{config} cannot be read; what it sets is not known")
        else:
            values = {key: value for _, key, value in ini(text) if value}
            values |= {key: found[-1] for key, found in yaml_values(text).items()}
    data, source = option(arguments, "--dbpath"), COMMAND_LINE
    if not data:
        data, source = values.get("storage.dbPath") or values.get("dbpath"), CONFIGURATION
    if not data and missing:
        return Discovery(missing=tuple(missing))
    if not data:
        data, source = "/data/db", DEFAULT
    data = process.absolute(data)
    paths = [
        Found(path=data, role="data", source=source),
        Found(path=posixpath.join(data, "journal"), role="wal", source=source),
    ]
    for names, switch, role in _PLACES:
        value = option(arguments, switch) or next((values[name] for name in names if name in values), "")
        if value:
            paths.append(Found(path=process.absolute(value), role=role, source=CONFIGURATION))
    return Discovery(paths=tuple(paths), missing=tuple(missing))


ENGINE = Engine(name="mongodb", runs=_runs, find=_find)
