"""Elasticsearch and OpenSearch: `path.data` and `path.logs` of the YAML file below `-D….path.conf`; both may be lists.

The default is `data` below the home of the installation (`-D….path.home`).
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
from holdfast_agent.probes.engines.option_text import option, yaml_values

_MAIN = ("org.elasticsearch.", "org.opensearch.")
_FLAVOURS = (
    ("-Des", "elasticsearch.yml", "ES_PATH_CONF"),
    ("-Dopensearch", "opensearch.yml", "OPENSEARCH_PATH_CONF"),
)


def _runs(process: Running) -> bool:
    started = any(word.startswith(_MAIN) and "Bootstrap" not in word for word in process.arguments[1:])
    named = any(word.startswith(("-Des.path.home", "-Dopensearch.path.home")) for word in process.arguments)
    # The launcher is a Java process too, with another main class.
    return process.program == "java" and named and (started or not _launcher(process))


def _launcher(process: Running) -> bool:
    return any(word.endswith(("CliToolLauncher", "ServerCli")) for word in process.arguments)


def _find(process: Running, files: Files) -> Discovery:
    for prefix, name, variable in _FLAVOURS:
        home = option(process.arguments, f"{prefix}.path.home")
        if home is None:
            continue
        folder = (
            option(process.arguments, f"{prefix}.path.conf")
            or process.environment.get(variable)
            or f"{home}/config"
        )
        text = files.text(process.absolute(posixpath.join(folder, name)))
        if text is None:
            return Discovery(missing=(f"{folder}/{name} cannot be read; where the indices are is not known",))
        values = yaml_values(text)
        data = values.get("path.data") or values.get("data")
        paths = [
            Found(
                path=posixpath.join(home, each.strip()),
                role="data",
                source=CONFIGURATION if data else DEFAULT,
            )
            for each in data or ["data"]
        ]
        paths += [
            Found(path=posixpath.join(home, each), role="log", source=CONFIGURATION)
            for each in values.get("path.logs", [])
        ]
        return Discovery(paths=tuple(paths))
    return Discovery()


ENGINE = Engine(name="elasticsearch", runs=_runs, find=_find)
