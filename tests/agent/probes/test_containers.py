"""What containers keep where, by their engine's word: images, mounts, layers; and how the engine is asked, or is not."""

import contextlib
import json
import os
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast_agent.probe import Observation, ProbeContext
from holdfast_agent.probes import container_socket_linux
from holdfast_agent.probes.container_raw import ContainerMount, ContainerRaw
from holdfast_agent.probes.container_socket_linux import read_containers
from holdfast_agent.probes.container_state import Told, found_in, image_of, told
from holdfast_agent.probes.process_table import Process
from holdfast_agent.probes.service_processes import Group, containers_of
from holdfast_agent.probes.state_facts import name_of
from holdfast_agent.probes.state_paths_linux import StatePaths
from tests.agent.probes.recordings import recorded
from tests.rigs.podman import DATA, Podman
from tests.rigs.unprivileged import as_nobody

ID = "ab" * 32
ANONYMOUS = "0f" * 32


def container(image: str = "postgres:16", **more: Any) -> ContainerRaw:
    return ContainerRaw(id=ID, runtime="docker", name="db", image=image, status="running", **more)


# What is made of it


@pytest.mark.parametrize(
    ("image", "engine"),
    [
        ("postgres", "postgresql"),
        ("docker.io/library/postgres:16-alpine", "postgresql"),
        ("registry.example:5000/bitnami/postgresql@sha256:00", "postgresql"),
        ("localhost/redis", "redis"),
        ("mcr.microsoft.com/mssql/server:2022-latest", "sqlserver"),
        ("quay.io/somebody/postgres-exporter", None),
        ("sha256:0123", None),
        ("", None),
    ],
)
def test_an_image_is_known_by_its_repository_whatever_its_registry_and_tag(
    image: str, engine: str | None
) -> None:
    """An exporter, whose name only begins alike, keeps nothing."""
    known = image_of(container(image))

    assert (known.engine if known else None) == engine


def test_a_client_in_a_databases_image_keeps_nothing() -> None:
    """`docker run postgres psql -h elsewhere` leaves a stopped container on many machines."""
    assert found_in(container(arguments=("docker-entrypoint.sh", "psql", "-h", "db"))) == []


def test_the_environment_names_the_folder_where_the_image_lets_it() -> None:
    [found] = found_in(container(folders={"PGDATA": "/var/lib/postgresql/18/docker"}))

    assert (found.path, found.role, found.confidence) == ("/var/lib/postgresql/18/docker", "data", "high")


def test_volumes_of_an_unknown_image_are_state_and_sockets_are_not() -> None:
    mounts = (
        ContainerMount(kind="volume", name="things", source="/v/things/_data", destination="/things"),
        ContainerMount(kind="bind", source="/srv/x", destination="/x/"),
        ContainerMount(kind="bind", source="/srv/y", destination="/y", writable=False),
        ContainerMount(kind="bind", source="/run/docker.sock", destination="/run/docker.sock"),
    )

    found = found_in(container("somebody/thing", mounts=mounts))

    assert [(each.path, each.role, each.confidence) for each in found] == [
        ("/things", "data", "medium"),
        ("/x", "data", "low"),
    ]


def test_what_the_running_engine_told_is_not_guessed_again_from_its_image() -> None:
    """A Redis whose folder was moved by its configuration leaves /data empty."""
    mount = ContainerMount(kind="volume", name="store", source="/v/store/_data", destination="/store")

    assert found_in(container("redis:7", mounts=(mount,)), known=["/store/redis"]) == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/d/a/b", Told(how="named", machine_path="/v/d/_data/a/b")),
        ("/d/inner/x", Told(how="memory")),
        ("/dd", Told(how="layer", machine_path="/upper/dd")),
        ("/n/x", Told(how="anonymous", machine_path=f"/v/{ANONYMOUS}/_data/x")),
        ("/b", Told(how="bind", machine_path="/srv")),
        ("/t/x", Told(how="memory")),
    ],
)
def test_the_innermost_mount_holds_a_path_and_else_the_layer(path: str, expected: Told) -> None:
    mounts = (
        ContainerMount(kind="volume", name="d", source="/v/d/_data", destination="/d"),
        ContainerMount(kind="volume", name=ANONYMOUS, source=f"/v/{ANONYMOUS}/_data", destination="/n"),
        ContainerMount(kind="bind", source="/srv", destination="/b"),
        ContainerMount(kind="tmpfs", destination="/t"),
    )

    assert told(container(mounts=mounts, memory=("/d/inner",), upper="/upper"), path) == expected


def test_a_unit_that_runs_a_container_is_found_by_its_main_process() -> None:
    """A quadlet's control group is the unit's; a plain one is named after the container."""
    unit = Group(
        name="db.service",
        processes=(
            Process(pid=7, parent=1, arguments=("conmon",)),
            Process(pid=8, parent=7, arguments=("postgres",)),
        ),
        unit=True,
    )
    plain = Group(
        name=f"docker-{ID[:12]}", processes=(Process(pid=9, parent=1, arguments=("postgres",)),), unit=False
    )
    other = Group(name="cron.service", processes=(Process(pid=10, parent=1, arguments=("cron",)),), unit=True)
    of_unit, of_plain = container(pid=8), ContainerRaw(id=ID, runtime="docker", name="x")

    assert containers_of([unit, other], [of_unit]) == {"db.service": of_unit}
    assert containers_of([plain, other], [of_plain]) == {f"docker-{ID[:12]}": of_plain}


def seen(observation: Observation, service: str, path: str) -> tuple[Any, ...]:
    """container_layer, container_volume, volatile, mountpoint, resolved."""
    [facts] = [each.facts for each in observation.resources if each.name == name_of(service, path)]
    names = ("container_layer", "container_volume", "volatile", "mountpoint", "resolved")
    return tuple(facts.get(name) for name in names)


@pytest.mark.parametrize(
    ("service", "path", "expected"),
    [
        ("libpod-layered", DATA, (True, "", False, None, True)),
        ("libpod-anonymous", DATA, (False, "anonymous", False, "/", True)),
        ("libpod-in-memory", DATA, (False, "", True, None, True)),
        ("docker-named", "/var/lib/mysql", (False, "named", False, "/mnt", True)),
        ("docker-named", "/logs", (False, "bind", False, "/", True)),
        ("docker-upper", "/data", (True, "", False, "/", True)),
        ("libpod-running", DATA, (True, "", False, "/", True)),
    ],
)
def test_every_database_in_a_container_is_followed_to_the_machine(
    service: str, path: str, expected: tuple[Any, ...]
) -> None:
    """A stopped one has no mounts of its own to ask, and a `vfs` layer is an ordinary folder to the kernel."""
    observation = StatePaths(ProbeContext(node="n", boot_id="b")).interpret(
        recorded(StatePaths, "containers")
    )

    assert seen(observation, service, path) == expected


# How it is asked


class _Answers(socketserver.StreamRequestHandler):
    """Sends what the server was given for the path asked."""

    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        target = self.rfile.readline().decode().split()[1]
        self.server.asked.append(target)
        answer = self.server.answers.get(target)
        if answer is None:
            self.server.released.wait(30)
        else:
            with contextlib.suppress(OSError):
                self.wfile.write(answer)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, answers: dict[str, bytes]) -> None:
        super().__init__(str(path), _Answers)
        self.answers, self.asked, self.released = answers, list[str](), threading.Event()


def ok(body: Any) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + text


LIST, INSPECT = "/containers/json?all=1", f"/containers/{ID}/json"
INSPECTED: dict[str, Any] = {
    "Id": ID,
    "Name": "/db",
    "Path": "docker-entrypoint.sh",
    "Args": ["postgres"],
    "State": {"Status": "exited", "Pid": 0, "OOMKilled": False},
    "HostConfig": {"Tmpfs": {"/scratch": "rw"}},
    "GraphDriver": {"Name": "overlay2", "Data": {"UpperDir": "/var/lib/docker/overlay2/x/diff"}},
    "Mounts": [{"Type": "bind", "Source": "/srv", "Destination": "/b", "Mode": "", "RW": False}],
    "Config": {
        "Image": "postgres:16",
        "Volumes": {DATA: {}},
        "Env": ["POSTGRES_PASSWORD=hush", f"PGDATA={DATA}"],
    },
}
"""Constructed after the Docker Engine API's own example (docs.docker.com/reference/api/engine, ContainerInspect)."""


@pytest.fixture
def rootfs() -> Iterator[Path]:
    """A short path: a socket's address has 107 characters (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
        (Path(folder) / "run").mkdir()
        yield Path(folder)


@contextlib.contextmanager
def engine(rootfs: Path, answers: dict[str, bytes]) -> Iterator[list[str]]:
    with _Server(rootfs / "run" / "docker.sock", answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.asked
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


def test_of_an_environment_only_folders_are_kept(rootfs: Path) -> None:
    """Passwords stand in environments; a recording goes into a bug report."""
    with engine(rootfs, {LIST: ok([{"Id": ID}]), INSPECT: ok(INSPECTED)}) as asked:
        [found] = read_containers(rootfs).containers

    assert asked == [LIST, INSPECT]
    assert found == ContainerRaw(
        id=ID,
        runtime="docker",
        name="db",
        image="postgres:16",
        arguments=("docker-entrypoint.sh", "postgres"),
        status="exited",
        storage_driver="overlay2",
        upper="/var/lib/docker/overlay2/x/diff",
        mounts=(ContainerMount(kind="bind", destination="/b", source="/srv", writable=False),),
        memory=("/scratch",),
        volumes=(DATA,),
        folders={"PGDATA": DATA},
    )


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({LIST: b"HTTP/1.0 500 Internal Server Error\r\n\r\n"}, "HTTP 500"),
        ({LIST: b"SSH-2.0-OpenSSH_9\r\n"}, "does not answer as it should"),
        ({LIST: ok(b"[{")}, "does not answer as it should"),
        ({LIST: ok([{"Id": "../../images/json"}])}, "it names a container"),
        ({LIST: ok(b"[" + b" " * 9_000_000)}, "an answer of more than"),
    ],
)
def test_an_engine_that_answers_badly_costs_its_containers_only(
    rootfs: Path, answers: dict[str, bytes], reason: str
) -> None:
    """What else is known of the machine's state stays known."""
    with engine(rootfs, answers):
        told_of = read_containers(rootfs)

    assert told_of.containers == ()
    assert reason in told_of.missing["/run/docker.sock"]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [({}, "did not answer within"), ({LIST: ok([{"Id": ID}])}, "it told of 0 of 1 containers")],
)
def test_an_engine_that_hangs_is_given_up(
    rootfs: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, bytes], reason: str
) -> None:
    """A hung Docker is common, at once or in the middle; the look at everything else must not hang with it."""
    monkeypatch.setattr(container_socket_linux, "ANSWER_SECONDS", 0.2)
    with engine(rootfs, answers):
        told_of = read_containers(rootfs)

    assert told_of.containers == ()
    assert reason in told_of.missing["/run/docker.sock"]


def test_a_container_that_went_away_meanwhile_is_no_trouble(rootfs: Path) -> None:
    with engine(rootfs, {LIST: ok([{"Id": ID}]), INSPECT: b"HTTP/1.0 404 Not Found\r\n\r\n{}"}):
        told_of = read_containers(rootfs)

    assert (told_of.containers, told_of.missing) == ((), {})


def test_a_machine_without_an_engine_or_with_a_stopped_one_misses_nothing(rootfs: Path) -> None:
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(str(rootfs / "run" / "docker.sock"))
    left_behind.close()

    assert read_containers(rootfs) == read_containers(rootfs / "nowhere")
    assert read_containers(rootfs).missing == {}


def test_who_may_not_ask_the_engine_is_told_what_it_takes(rootfs: Path) -> None:
    """The shipped unit may not: the right is as good as root's."""
    with engine(rootfs, {}):
        os.chmod(rootfs, 0o755)
        os.chmod(rootfs / "run" / "docker.sock", 0o660)
        said = as_nobody(
            f"""
            from pathlib import Path
            from holdfast_agent.probes.container_socket_linux import read_containers
            print(read_containers(Path("{rootfs}")).missing)
            """
        )

    assert "'/run/docker.sock': 'only root" in said
    assert "SupplementaryGroups=docker" in said


@pytest.mark.system
def test_a_real_podman_tells_what_its_containers_would_lose() -> None:
    """In its own storage, with containers that were made and never started; the layer is a folder of `vfs`."""
    with Podman() as podman:
        podman.create("layered")
        podman.create("anonymous", "--volume", DATA)
        podman.create("named", "--volume", f"things:{DATA}")
        podman.create("in-memory", "--tmpfs", DATA)
        podman.serve()
        probe = StatePaths(ProbeContext(node="n", boot_id="b", rootfs=podman.rootfs))
        observation = probe.interpret(probe.read())

    what = {
        name: seen(observation, f"libpod-{name}", DATA)[:3]
        for name in ("layered", "anonymous", "named", "in-memory")
    }
    assert what == {
        "layered": (True, "", False),
        "anonymous": (False, "anonymous", False),
        "named": (False, "named", False),
        "in-memory": (False, "", True),
    }


HOLDS_OPEN = "exec 3>/srv/layer/x 4>/data/x 5>/machine/x 6>/memory/x"


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """With layers that are overlays, as Podman and Docker have them where nobody chose otherwise."""
    with Podman(driver="overlay") as podman:
        yield podman


@pytest.fixture(scope="module")
def running(podman: Podman) -> Iterator[str]:
    """The id of a container that has a file open in its layer, in a volume, in a folder of the machine and in memory."""
    kept = podman.rootfs / "kept"
    kept.mkdir()
    options = ["--volume", "things:/data", "--volume", f"{kept}:/machine", "--tmpfs", "/memory"]
    with podman.running("db", f"/bin/busybox mkdir /srv/layer; {HOLDS_OPEN}", *options) as identity:
        yield identity


@pytest.mark.system
def test_a_running_containers_files_are_followed_in_its_own_mounts(running: str, podman: Podman) -> None:
    """Nobody is asked: as an agent without a right to the engine's socket sees it, by control group and mounts."""
    probe = StatePaths(ProbeContext(node="n", boot_id="b", rootfs=podman.rootfs / "nowhere"))

    observation = probe.interpret(probe.read())

    name = f"libpod-{running[:12]}"
    volume = seen(observation, name, "/machine")[3]
    assert volume is not None
    assert {
        path: seen(observation, name, path) for path in ("/srv/layer", "/data", "/machine", "/memory")
    } == {
        "/srv/layer": (True, "", False, volume, True),
        "/data": (False, "named", False, volume, True),
        "/machine": (False, "bind", False, volume, True),
        "/memory": (False, "", True, None, True),
    }


@pytest.mark.system
def test_a_running_containers_engine_names_it_and_says_what_its_image_keeps(
    running: str, podman: Podman
) -> None:
    """The image is a database's: nothing is mounted at its folder, so that is in the layer, an overlay here."""
    podman.serve()
    probe = StatePaths(ProbeContext(node="n", boot_id="b", rootfs=podman.rootfs))

    observation = probe.interpret(probe.read())

    names = [each.name for each in observation.resources if each.kind == "service"]
    assert [name for name in names if name.startswith("libpod-")] == ["libpod-db"]
    volume = seen(observation, "libpod-db", "/machine")[3]
    assert volume is not None
    assert {path: seen(observation, "libpod-db", path) for path in (DATA, "/data", "/machine")} == {
        DATA: (True, "", False, volume, True),
        "/data": (False, "named", False, volume, True),
        "/machine": (False, "bind", False, volume, True),
    }
