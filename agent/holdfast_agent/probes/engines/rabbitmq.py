"""RabbitMQ: its database and message stores, the Erlang cookie, its log.

The start script hands all of it to the Erlang machine in its environment (`rabbitmq-env`, rabbit_env.erl); older
releases name the directory among the arguments (`-mnesia dir "…"`). The directory's name contains the node's name: after a change of
the host's name a broker starts empty beside its old data.
"""

import posixpath

from holdfast_agent.probes.engines.engine import (
    COMMAND_LINE,
    DEFAULT,
    ENVIRONMENT,
    Discovery,
    Engine,
    Files,
    Found,
    Running,
    unquoted,
)

_BASE = "/var/lib/rabbitmq/mnesia"


def _runs(process: Running) -> bool:
    return process.program.startswith("beam") and any("rabbit" in word for word in process.arguments[1:])


def _find(process: Running, files: Files) -> Discovery:
    arguments, environment = process.arguments, process.environment
    data, source = "", COMMAND_LINE
    for index, word in enumerate(arguments):
        if word == "-mnesia" and arguments[index + 1 : index + 2] == ("dir",):
            data = unquoted("".join(arguments[index + 2 : index + 3]))
    if not data:
        data, source = environment.get("RABBITMQ_MNESIA_DIR", ""), ENVIRONMENT
    if not data:
        data, source = environment.get("RABBITMQ_MNESIA_BASE", ""), ENVIRONMENT
    if not data:
        data, source = _BASE, DEFAULT
    home = environment.get("HOME", "/var/lib/rabbitmq")
    paths = [
        Found(path=data, role="data", source=source, confidence="high" if source != DEFAULT else "medium"),
        Found(path=posixpath.join(home, ".erlang.cookie"), role="keys", source=DEFAULT, confidence="medium"),
    ]
    if log := environment.get("RABBITMQ_LOG_BASE"):
        paths.append(Found(path=log, role="log", source=ENVIRONMENT))
    return Discovery(paths=tuple(paths))


ENGINE = Engine(name="rabbitmq", runs=_runs, find=_find)
