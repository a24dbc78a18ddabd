"""The engines we know."""

from holdfast_agent.probes.engines import (
    elasticsearch,
    etcd,
    kafka,
    mongodb,
    mysql,
    postgresql,
    rabbitmq,
    redis,
    sqlserver,
)
from holdfast_agent.probes.engines.engine import Engine, Running

ENGINES: tuple[Engine, ...] = (
    postgresql.ENGINE,
    mysql.ENGINE,
    redis.ENGINE,
    etcd.ENGINE,
    mongodb.ENGINE,
    rabbitmq.ENGINE,
    elasticsearch.ENGINE,
    kafka.ENGINE,
    sqlserver.ENGINE,
)
_BY_NAME = {engine.name: engine for engine in ENGINES}


def engine_of(process: Running) -> Engine | None:
    """The engine whose main process this is."""
    return next((engine for engine in ENGINES if engine.runs(process)), None)


def engine_named(name: str) -> Engine | None:
    """The engine of that name."""
    return _BY_NAME.get(name)
