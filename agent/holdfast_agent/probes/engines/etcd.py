"""etcd: data directory and write-ahead log.

A configuration file, where one is given, makes all other flags and variables void (etcd.io, "Configuration options").
The default data directory is `NAME.etcd` in the working directory.
"""

import posixpath

from holdfast_agent.probes.engines.engine import (
    COMMAND_LINE,
    CONFIGURATION,
    DEFAULT,
    ENVIRONMENT,
    Discovery,
    Engine,
    Files,
    Found,
    Running,
)
from holdfast_agent.probes.engines.option_text import flag, option, yaml_values

_UNSYNCED = "unsafe-no-fsync"


def _runs(process: Running) -> bool:
    return (
        process.program == "etcd"
        and "grpc-proxy" not in process.arguments
        and "gateway" not in process.arguments
    )


def _find(process: Running, files: Files) -> Discovery:
    arguments = process.arguments[1:]
    config = option(arguments, "--config-file", "-config-file") or process.environment.get("ETCD_CONFIG_FILE")
    values: dict[str, list[str]] = {}
    if config:
        text = files.text(process.absolute(config))
        if text is None:
            return Discovery(missing=(f"{config} cannot be read; where etcd keeps its data is not known",))
        values = yaml_values(text)

    def given(name: str) -> tuple[str, str]:
        if config:
            return values.get(name, [""])[-1], CONFIGURATION
        if value := option(arguments, f"--{name}", f"-{name}"):
            return value, COMMAND_LINE
        return process.environment.get(f"ETCD_{name.upper().replace('-', '_')}", ""), ENVIRONMENT

    data, source = given("data-dir")
    if not data:
        data, source = f"{given('name')[0] or 'default'}.etcd", DEFAULT
        if not process.directory:
            return Discovery(missing=("its working directory cannot be read, and its data is in there",))
    data = process.absolute(data)
    wal, wal_source = given("wal-dir")
    unsynced = flag(arguments, f"--{_UNSYNCED}") or values.get(_UNSYNCED, [""])[-1].lower() == "true"
    return Discovery(
        paths=(
            Found(path=data, role="data", source=source),
            Found(
                path=process.absolute(wal) if wal else posixpath.join(data, "member", "wal"),
                role="wal",
                source=wal_source if wal else source,
            ),
        ),
        syncs_disabled_by=f"--{_UNSYNCED}" if unsynced else "",
    )


ENGINE = Engine(name="etcd", runs=_runs, find=_find)
