"""Asks Docker and Podman over their sockets which containers there are and what is mounted into them. Only asks.

Both speak HTTP on a unix socket, Podman Docker's language beside its own (docs.docker.com/reference/api/engine,
docs.podman.io "compatibility API"): `GET /containers/json?all=1`, then `GET /containers/ID/json` of each. Paths without
a version mean the newest that the engine speaks. A question in HTTP/1.0 is answered without chunks and with the end of
the connection, so that it can be read here under one deadline and one limit: an engine that hangs, or that talks without end, costs
`ANSWER_SECONDS` and nothing else.

Whoever may write to such a socket is root on the machine, which is why the unit does not give it to the agent.
"""

import io
import re
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from holdfast_agent.errors import Unsupported
from holdfast_agent.late_imports import imported_late
from holdfast_agent.probes.container_raw import ContainerMount, ContainerRaw, ContainersRaw, Runtime

with imported_late("http.client"):
    import http.client  # most machines have no engine to ask

SOCKETS: tuple[tuple[str, Runtime], ...] = (
    ("run/docker.sock", "docker"),
    ("run/podman/podman.sock", "libpod"),
)
ANSWER_SECONDS = 6.0
"""For all questions to one engine."""
CONTAINERS_MAX = 200
ANSWER_BYTES_MAX = 8_000_000
FOLDER_VARIABLES = frozenset(
    {"PGDATA", "ETCD_DATA_DIR", "MONGO_DATA_DIR", "KAFKA_LOG_DIRS", "RABBITMQ_MNESIA_BASE"}
)
_ID = re.compile(r"[0-9a-f]{12,64}")
_CURE = {
    "docker": "only root and the group docker may ask it, and that group is as good as root: run the agent as root, or "
    "give its unit SupplementaryGroups=docker, if that is acceptable here",
    "libpod": "only root may ask it: run the agent as root, if that is acceptable here",
}


class _Mount(Struct, rename="pascal"):
    type: str = ""
    name: str = ""
    source: str = ""
    destination: str = ""
    rw: bool = field(default=True, name="RW")


class _State(Struct, rename="pascal"):
    status: str = ""
    pid: int = 0


class _Host(Struct, rename="pascal"):
    tmpfs: dict[str, str] | None = None


class _Config(Struct, rename="pascal"):
    image: str = ""
    volumes: dict[str, Any] | None = None
    env: list[str] | None = None


class _Driver(Struct, rename="pascal"):
    name: str = ""
    data: dict[str, Any] | None = None


class _Container(Struct, rename="pascal"):
    id: str
    name: str = ""
    path: str = ""
    args: list[str] | None = None
    state: _State = field(default_factory=_State)
    mounts: list[_Mount] | None = None
    host_config: _Host = field(default_factory=_Host)
    config: _Config = field(default_factory=_Config)
    graph_driver: _Driver | None = None


class _Listed(Struct, rename="pascal"):
    id: str


def read_containers(rootfs: Path) -> ContainersRaw:
    """All containers of the engines whose sockets are there. Never raises for an engine: `missing` tells."""
    containers: list[ContainerRaw] = []
    missing: dict[str, str] = {}
    for name, runtime in SOCKETS:
        path = rootfs / name
        try:
            if not stat.S_ISSOCK(path.stat().st_mode):
                continue
            found, cut = _asked(_Engine(path), runtime)
            containers += found
            if cut:
                missing[f"/{name}"] = cut
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            continue  # no engine, or one that does not run
        except PermissionError:
            missing[f"/{name}"] = _CURE[runtime]
        except TimeoutError:
            missing[f"/{name}"] = f"the engine did not answer within {ANSWER_SECONDS:.0f} s"
        except (OSError, http.client.HTTPException, msgspec.MsgspecError, UnicodeError) as error:
            missing[f"/{name}"] = (
                f"the engine does not answer as it should: {str(error) or type(error).__name__}"
            )
    return ContainersRaw(containers=tuple(containers), missing=missing)


def _asked(engine: "_Engine", runtime: Runtime) -> tuple[list[ContainerRaw], str]:
    """Its containers, and why there are not all of them."""
    listed = msgspec.json.decode(engine.get("/containers/json?all=1"), type=list[_Listed])
    found: list[ContainerRaw] = []
    for each in listed[:CONTAINERS_MAX]:
        if not _ID.fullmatch(each.id):
            raise OSError(f"it names a container {each.id[:80]!r}")
        try:
            body = engine.get(f"/containers/{each.id}/json")
        except TimeoutError:
            return found, f"it told of {len(found)} of {len(listed)} containers in {ANSWER_SECONDS:.0f} s"
        if body:
            found.append(container_raw(msgspec.json.decode(body, type=_Container), runtime))
    left = len(listed) - CONTAINERS_MAX
    return found, f"{left} containers were not looked at" if left > 0 else ""


def container_raw(told: _Container, runtime: Runtime) -> ContainerRaw:
    """What is kept of an answer."""
    driver = told.graph_driver or _Driver()
    upper = (driver.data or {}).get("UpperDir")
    pairs = (each.partition("=") for each in told.config.env or ())
    return ContainerRaw(
        id=told.id,
        runtime=runtime,
        name=told.name.lstrip("/")[:200],
        image=told.config.image[:300],
        arguments=tuple(each[:200] for each in (told.path, *(told.args or ()))[:4]),
        status=told.state.status,
        pid=told.state.pid,
        storage_driver=driver.name,
        upper=upper if isinstance(upper, str) else "",
        mounts=tuple(
            ContainerMount(
                kind=each.type,
                destination=each.destination,
                source=each.source,
                name=each.name,
                writable=each.rw,
            )
            for each in told.mounts or ()
        ),
        memory=tuple(told.host_config.tmpfs or ()),
        volumes=tuple(told.config.volumes or ()),
        folders={name: value for name, _, value in pairs if name in FOLDER_VARIABLES},
    )


class _Engine:
    """One engine's socket, asked under one deadline."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._deadline = time.monotonic() + ANSWER_SECONDS

    def get(self, target: str) -> bytes:
        """The body of the answer; empty when there is no such thing any more. Raises OSError, HTTPException."""
        answer = http.client.HTTPResponse(_Read(self._answer(target)))  # type: ignore[arg-type]  # it only makes a file
        answer.begin()
        if answer.status == http.client.NOT_FOUND:
            return b""
        if answer.status != http.client.OK:
            raise OSError(f"HTTP {answer.status} to GET {target}")
        return answer.read()

    def _answer(self, target: str) -> bytes:
        if sys.platform != "linux":
            raise Unsupported("only Linux has these sockets")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self._left())
            connection.connect(str(self._path))
            connection.sendall(f"GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            parts: list[bytes] = []
            size = 0
            while True:
                connection.settimeout(self._left())
                part = connection.recv(1 << 16)
                if not part:
                    return b"".join(parts)
                parts.append(part)
                size += len(part)
                if size > ANSWER_BYTES_MAX:
                    raise OSError(f"an answer of more than {ANSWER_BYTES_MAX} bytes")

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _Read:
    """What HTTPResponse wants of a socket."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._answer)
