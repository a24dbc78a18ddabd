"""Where a container keeps state, by what its engine says of it. Pure.

    image (PostgreSQL, …) ──▶ folder ──▶ what is mounted there ──▶ a place on the machine
                                            volume · bind · tmpfs · nothing: the container's own layer

The mounts of a running container's process say the same of it, but not of one that is stopped, not without the right to
look into it, and not where the layer is a folder of the machine's own filesystem (Podman's `vfs`, btrfs, ZFS).
"""

import posixpath
import re
from collections.abc import Collection, Mapping
from typing import Literal

from msgspec import Struct

from holdfast_agent.probes.container_raw import ContainerMount, ContainerRaw
from holdfast_agent.probes.engines.engine import Found
from holdfast_agent.probes.kubelet_volumes import pod_volume
from holdfast_agent.probes.state_roles import Role, below, role_of_place

SOURCE = "container engine"
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_MEMORY = frozenset({"tmpfs", "ramfs"})
_ENDED = frozenset({"dead", "removing"})


class Image(Struct, frozen=True):
    """What is known of an image."""

    engine: str
    """As in `engines.known`; empty for one that we know nothing else of."""
    folders: tuple[tuple[str, Role], ...]
    variable: str = ""
    """Names the first folder instead, where the environment has it."""


_POSTGRESQL = Image("postgresql", (("/var/lib/postgresql/data", "data"),), "PGDATA")
_MYSQL = Image("mysql", (("/var/lib/mysql", "data"),))
_REDIS = Image("redis", (("/data", "data"),))
IMAGES: Mapping[str, Image] = {
    "postgres": _POSTGRESQL,
    "postgis/postgis": _POSTGRESQL,
    "timescale/timescaledb": _POSTGRESQL,
    "timescale/timescaledb-ha": Image("postgresql", (("/home/postgres/pgdata/data", "data"),), "PGDATA"),
    "pgvector/pgvector": _POSTGRESQL,
    "bitnami/postgresql": Image("postgresql", (("/bitnami/postgresql", "data"),)),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "percona": _MYSQL,
    "mysql/mysql-server": _MYSQL,
    "percona/percona-server": _MYSQL,
    "bitnami/mysql": Image("mysql", (("/bitnami/mysql", "data"),)),
    "bitnami/mariadb": Image("mysql", (("/bitnami/mariadb", "data"),)),
    "redis": _REDIS,
    "valkey": _REDIS,
    "valkey/valkey": _REDIS,
    "bitnami/redis": Image("redis", (("/bitnami/redis/data", "data"),)),
    "mongo": Image("mongodb", (("/data/db", "data"), ("/data/configdb", "config"))),
    "bitnami/mongodb": Image("mongodb", (("/bitnami/mongodb", "data"),)),
    "bitnami/etcd": Image("etcd", (("/bitnami/etcd", "data"),)),
    "rabbitmq": Image("rabbitmq", (("/var/lib/rabbitmq", "data"),)),
    "elasticsearch": Image("elasticsearch", (("/usr/share/elasticsearch/data", "data"),)),
    "elasticsearch/elasticsearch": Image("elasticsearch", (("/usr/share/elasticsearch/data", "data"),)),
    "opensearchproject/opensearch": Image("elasticsearch", (("/usr/share/opensearch/data", "data"),)),
    "confluentinc/cp-kafka": Image("kafka", (("/var/lib/kafka/data", "data"),)),
    "bitnami/kafka": Image("kafka", (("/bitnami/kafka", "data"),)),
    "mssql/server": Image("sqlserver", (("/var/opt/mssql", "data"),)),
    "influxdb": Image("", (("/var/lib/influxdb2", "data"),)),
    "cassandra": Image("", (("/var/lib/cassandra", "data"),)),
    "clickhouse/clickhouse-server": Image("", (("/var/lib/clickhouse", "data"),)),
    "neo4j": Image("", (("/data", "data"),)),
}
"""Repository without host, `library/` and tag → where it keeps its data, by each image's own page."""
_CLIENTS = frozenset(
    {
        "psql", "pg_dump", "pg_dumpall", "pg_restore", "pg_basebackup", "mysql", "mysqldump", "mariadb",
        "mariadb-dump", "redis-cli", "valkey-cli", "mongosh", "mongo", "mongodump", "mongorestore", "rabbitmqctl",
    }
)  # fmt: skip
"""Programs that such an image is started with to work on another machine's database: the container keeps nothing."""


class Told(Struct, frozen=True, kw_only=True):
    """What the engine says is at a path of a container."""

    how: Literal["layer", "memory", "named", "anonymous", "bind"]
    machine_path: str = ""
    """Empty where the engine does not say."""


def image_of(container: ContainerRaw) -> Image | None:
    """What is known of its image; None for one that nothing is known of, and for a mere client."""
    if any(posixpath.basename(each) in _CLIENTS for each in container.arguments):
        return None
    name = container.image.partition("@")[0]
    folder, _, last = name.rpartition("/")
    parts = [*(part for part in folder.split("/") if part), last.partition(":")[0]]
    if len(parts) > 1 and ("." in parts[0] or ":" in parts[0] or parts[0] == "localhost"):
        parts = parts[1:]
    if parts[0] == "library":
        parts = parts[1:]
    return IMAGES.get("/".join(parts))


def engine_of_image(container: ContainerRaw) -> str:
    """The known engine's name; empty when there is none."""
    image = image_of(container)
    return image.engine if image else ""


def found_in(container: ContainerRaw, known: Collection[str] = ()) -> list[Found]:
    """The paths in the container that it keeps something in. Of what nobody explains, only what may be written to.

    `known`: what its engine's own process told; then the image is not asked, which knows the usual places only.
    """
    if container.status in _ENDED:
        return []
    folders = [] if known else _folders(container)
    found = {path: Found(path=path, role=role, source=SOURCE) for path, role in folders}
    for mount in container.mounts:
        place = posixpath.normpath(mount.destination)
        role = role_of_place(place)
        explained = any(below(path, place) or below(place, path) for path in (*found, *known))
        if explained or not mount.writable or mount.kind not in ("volume", "bind") or role == "runtime":
            continue
        of_pod = pod_volume([mount.source], "")
        if of_pod == "projected":
            continue
        # Who mounts a volume means it to last; a folder of the machine may be anything, a socket included.
        confidence: Literal["medium", "low"] = "medium" if mount.kind == "volume" or of_pod else "low"
        role = "temp" if of_pod == "empty_dir" else role
        found[place] = Found(path=place, role=role, source=SOURCE, confidence=confidence)
    return list(found.values())


def _folders(container: ContainerRaw) -> list[tuple[str, Role]]:
    image = image_of(container)
    if image is None:
        return []
    (first, role), *rest = image.folders
    named = container.folders.get(image.variable, "") if image.variable else ""
    return [(posixpath.normpath(named) if named.startswith("/") else first, role), *rest]


def told(container: ContainerRaw, path: str) -> Told:
    """What is at the path: the innermost of what is mounted into the container, or its own layer."""
    inner: dict[str, ContainerMount | None] = {posixpath.normpath(place): None for place in container.memory}
    inner |= {posixpath.normpath(mount.destination): mount for mount in container.mounts}
    place = max((each for each in inner if below(path, each)), key=len, default="")
    if not place:
        layer = posixpath.join(container.upper, path.lstrip("/")) if container.upper else ""
        return Told(how="layer", machine_path=layer)
    mount = inner[place]
    if mount is None or mount.kind in _MEMORY:
        return Told(how="memory")
    there = (
        posixpath.normpath(posixpath.join(mount.source, path[len(place) :].lstrip("/")))
        if mount.source
        else ""
    )
    if mount.kind != "volume":
        return Told(how="bind", machine_path=there)
    return Told(how="anonymous" if _ANONYMOUS.fullmatch(mount.name) else "named", machine_path=there)
