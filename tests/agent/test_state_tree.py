"""The tree of `holdfast-agent once`: one look shows which state is on what, and what is wrong in its place."""

from holdfast_agent.command.glance import Glance
from holdfast_agent.command.glance_table import render
from holdfast_agent.command.state_tree import state_tree
from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.state_paths_linux import StatePaths
from holdfast_wire import Resource, Section, SectionStatus
from holdfast_wire.message import Value
from tests.agent.probes.recordings import recorded

VOLUMES = [
    Resource(kind="volume", name="/", facts={"durability_class": 2, "writable": True}),
    Resource(kind="volume", name="/srv", facts={"durability_class": 2, "writable": False}),
    Resource(kind="volume", name="/mnt", facts={"durability_class": 1, "writable": True}),
]


def resources(machine: str) -> list[Resource]:
    return StatePaths(ProbeContext(node="n", boot_id="b")).interpret(recorded(StatePaths, machine)).resources


def tree(*found: Resource) -> list[str]:
    kinds = {kind: [each for each in found if each.kind == kind] for kind in ("state_path", "service")}
    return state_tree(kinds["state_path"], kinds["service"], VOLUMES).splitlines()


def path(**facts: Value) -> Resource:
    known: dict[str, Value] = {
        "service": "a.service", "path": "/d", "role": "data", "required_class": 2, "confidence": "high",
        "resolved": True, "mountpoint": "/", "fstype": "ext4", "device": "sda1",
    }  # fmt: skip
    return Resource(kind="state_path", name="a.service:/d", facts=known | facts)


def test_a_database_shows_every_path_with_its_mount_device_and_class() -> None:
    lines = tree(*resources("debian-12-databases"))

    begin = lines.index("postgresql@15-main.service  postgresql")
    assert lines[begin + 1 : begin + 11] == [
        "  ! its unit file has changed since systemd read it",
        "├─ /etc/postgresql/15/main (config)  /  sda1 ext4  D2",
        "├─ /var/lib/postgresql/15/main (data)  /  sda1 ext4  D2",
        "│    ! deleted while open: /var/lib/postgresql/15/main/base/5/16390 (/proc/905/fd/12)",
        "├─ …/pg_tblspc/16385 -> /srv/space (tablespace)  /srv  sdc1 xfs  D2",
        "│    ! the unit may start without this mount",
        "│    ! the volume takes no writes",
        "└─ …/pg_wal -> /mnt/pg_wal (wal)  /mnt  sdb1 ext4  D1",
        "     ! needs D2",
        "     ! the unit may start without this mount",
    ]


def test_what_is_in_memory_hidden_and_unsynced_says_so_in_its_place() -> None:
    lines = tree(*resources("debian-12-databases"))

    begin = lines.index("redis-server.service  redis")
    assert lines[begin + 1 : begin + 5] == [
        "  ! fsync does nothing: libeatmydata.so",
        "└─ /var/lib/redis (data)  /var/lib/redis  tmpfs  D0",
        "     ! in memory or gone with the service, needs D2",
        "     ! a mount hides /var/lib/redis/appendonlydir/appendonly.aof.1.incr.aof, which it writes to",
    ]


def test_a_path_of_unknown_end_has_no_class_and_its_service_says_why() -> None:
    lines = tree(*resources("no-rights"))

    begin = lines.index("mongod.service  mongodb")
    assert lines[begin + 1] == "  ! unknown: /etc/mongod.conf cannot be read; what it sets is not known"
    assert "└─ /tmp/redis (data)" in lines


def test_a_containers_layer_is_called_what_it_is() -> None:
    lines = tree(*resources("docker-host"))

    begin = lines.index("└─ /var/lib/postgresql/data (data)  /  overlay  D0")
    assert lines[begin + 1] == "     ! goes with the container"


def test_troubled_services_come_first_and_unexplained_files_last() -> None:
    calm = path()
    bad = path(service="z.service", volatile=True)
    guessed = path(service="c.service", confidence="low", path="/x")

    lines = tree(calm, bad, guessed)

    assert [line.split("  ")[0] for line in lines if not line.startswith(("├", "└", " "))] == [
        "STATE", "z.service", "a.service",
    ]  # fmt: skip
    assert lines[-1] == "  write files nobody explains: c"


def test_what_may_go_is_never_wrong_and_a_medium_nobody_knows_is_no_class() -> None:
    assert tree(path(role="temp", required_class=0, volatile=True))[-1] == "└─ /d (temp)  /  sda1 ext4  D0"
    assert tree(path(mountpoint="/unknown"))[-1] == "└─ /d (data)  /unknown  sda1 ext4  D?"
    assert tree() == []


def test_the_page_shows_a_service_that_two_probes_speak_of_once() -> None:
    """The service manager says that it runs, this probe what it keeps; a database nobody manages is no unit."""

    def section(probe: str, *found: Resource) -> Section:
        return Section(
            probe=probe, status=SectionStatus.OK, observed_at=0.0, mono=0.0, period_seconds=10.0,
            duration_seconds=0.0, resources=list(found),
        )  # fmt: skip

    managed = Resource(kind="service", name="a.service", facts={"up": True})
    kept = Resource(kind="service", name="a.service", facts={"stateful": True, "engine": "redis"})
    loose = Resource(kind="service", name="redis:/d", facts={"stateful": True, "engine": "redis"})

    page = render(
        "vm",
        Glance(
            sections=[section("state_paths", kept, loose, path()), section("units", managed)], happenings=[]
        ),
    )

    assert "SERVICES  1 watched, 1 up" in page
    assert "a.service  redis\n└─ /d (data)" in page
    assert "state_path" not in page.partition("PROBE")[0].lower()


def test_the_page_says_that_the_machine_may_be_taken_back_and_who_says_so() -> None:
    declared: dict[str, Value] = {"preemptible": True, "preemptible_reason": "declared in the configuration"}
    section = Section(
        probe="preemption", status=SectionStatus.OK, observed_at=0.0, mono=0.0, period_seconds=300.0,
        duration_seconds=0.0, resources=[Resource(kind="node", name="vm", facts=declared)],
    )  # fmt: skip

    page = render("vm", Glance(sections=[section], happenings=[]))

    assert "it may be taken back at any time: declared in the configuration" in page
