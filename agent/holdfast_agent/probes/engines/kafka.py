"""Kafka: the directories of the partitions (`log.dirs`, else `log.dir`) and of the cluster's metadata (KRaft).

The last argument of `kafka.Kafka` is its properties file, which `--override key=value` may contradict. Kafka's own default,
and its sample file's, is /tmp/kafka-logs.
"""

from holdfast_agent.probes.engines.engine import (
    CONFIGURATION,
    DEFAULT,
    Discovery,
    Engine,
    Files,
    Found,
    Running,
)
from holdfast_agent.probes.engines.option_text import properties

_MAIN = "kafka.Kafka"


def _runs(process: Running) -> bool:
    return process.program == "java" and _MAIN in process.arguments


def _find(process: Running, files: Files) -> Discovery:
    after = process.arguments[process.arguments.index(_MAIN) + 1 :]
    config = next((word for word in after if not word.startswith("-") and "=" not in word), "")
    text = files.text(process.absolute(config)) if config else None
    if text is None:
        return Discovery(
            missing=(
                f"{config or 'its properties file'} cannot be read; where it keeps its logs is not known",
            )
        )
    values = properties(text)
    for index, word in enumerate(after[:-1]):
        if word == "--override":
            key, _, value = after[index + 1].partition("=")
            values[key] = value
    data = values.get("log.dirs") or values.get("log.dir")
    paths = [
        Found(path=process.absolute(each.strip()), role="data", source=CONFIGURATION if data else DEFAULT)
        for each in (data or "/tmp/kafka-logs").split(",")
        if each.strip()
    ]
    if metadata := values.get("metadata.log.dir"):
        paths.append(Found(path=process.absolute(metadata), role="wal", source=CONFIGURATION))
    return Discovery(paths=tuple(paths))


ENGINE = Engine(name="kafka", runs=_runs, find=_find)
