"""What is made of recorded machines: where paths end on the machine, what threatens them, and what stays unknown."""

from typing import Any

import msgspec
import pytest

from holdfast_agent.probe import NoData, Observation, ProbeContext
from holdfast_agent.probes.state_facts import name_of
from holdfast_agent.probes.state_paths_linux import PATHS_MAX, SECTION_BYTES_MAX, StatePaths
from holdfast_agent.probes.state_raw import Place, ServiceRaw, StatePathsRaw
from tests.agent.probes.recordings import recorded

Facts = dict[str, Any]
PG = "postgresql@15-main.service"
HOME = "/var/lib/postgresql/15/main"


def look(machine: str, probe: StatePaths | None = None) -> Observation:
    return (probe or StatePaths(ProbeContext(node="n", boot_id="b"))).interpret(recorded(StatePaths, machine))


def path(seen: Observation, service: str, place: str) -> Facts:
    [facts] = [each.facts for each in seen.resources if each.name == name_of(service, place)]
    return facts


def service(seen: Observation, name: str) -> Facts:
    [facts] = [each.facts for each in seen.resources if each.kind == "service" and each.name == name]
    return facts


def some(facts: Facts, *names: str) -> tuple[Any, ...]:
    return tuple(facts.get(name) for name in names)


def test_a_link_onto_another_disk_is_named_with_the_disk() -> None:
    """The data directory is where everybody looks; the log of changes goes with the host."""
    wal = path(look("debian-12-databases"), PG, f"{HOME}/pg_wal")

    assert some(wal, "resolved_path", "mountpoint", "device", "crosses_mounts", "volatile", "required_class") == (
        "/mnt/pg_wal", "/mnt", "sdb1", True, False, 2,
    )  # fmt: skip


def test_a_mount_in_the_services_own_view_is_the_machines_volume() -> None:
    """Its mounts have other numbers than the machine's: what joins them is the filesystem."""
    data = path(look("debian-12-databases"), "redis-server.service", "/var/lib/redis")

    assert some(data, "mount_id", "mountpoint", "fstype", "volatile") == (
        342,
        "/var/lib/redis",
        "tmpfs",
        True,
    )


def test_a_private_tmp_is_a_folder_of_the_machine_that_goes_with_the_unit() -> None:
    queue = path(look("debian-12-databases"), "archiver.service", "/tmp/queue")

    assert some(queue, "machine_path", "volatile", "cleaned") == (
        "/tmp/systemd-private-8f14e45f-archiver.service-AbCdEf/tmp/queue", True, True,
    )  # fmt: skip
    assert queue["cleaned_by"] == "systemd removes the private /tmp of archiver.service when the unit stops"


def test_a_mount_of_fstab_that_is_missing_above_a_path_is_told() -> None:
    archive = path(look("debian-12-databases"), "archiver.service", "/backup/archive")

    assert some(archive, "mountpoint", "mount_missing", "missing_mountpoint") == ("/", True, "/backup")
    assert path(look("debian-12-databases"), PG, HOME)["mount_missing"] is False


def test_a_unit_requires_its_mount_or_is_told_not_to() -> None:
    """etcd's disk may fail to mount (nofail), and its unit names nothing; PostgreSQL's names its folder on /."""
    seen = look("debian-12-databases")

    required = [
        path(seen, PG, HOME)["mount_dependency"],
        path(seen, "etcd.service", "/srv/etcd")["mount_dependency"],
        path(seen, PG, f"{HOME}/pg_wal")["mount_dependency"],
    ]
    assert required == [True, False, False]


def test_files_that_nobody_else_can_see_belong_to_the_innermost_path() -> None:
    """A table that was deleted is told; segments of the log that PostgreSQL removed itself are not."""
    seen = look("debian-12-databases")

    table, wal = path(seen, PG, HOME), path(seen, PG, f"{HOME}/pg_wal")
    assert (table["deleted_open_bytes"], wal["deleted_open_bytes"]) == (81920, 0)
    assert table["deleted_open_file"] == f"{HOME}/base/5/16390 (/proc/905/fd/12)"
    assert path(seen, "redis-server.service", "/var/lib/redis")["shadowed"] is True


def test_a_service_says_what_it_is_and_how_it_runs() -> None:
    seen = look("debian-12-databases")

    redis, nginx = service(seen, "redis-server.service"), service(seen, "nginx.service")
    assert some(redis, "stateful", "engine", "syncs_disabled", "syncs_disabled_by", "needs_daemon_reload") == (
        True, "redis", True, "libeatmydata.so", False,
    )  # fmt: skip
    assert some(nginx, "stateful", "state_paths", "state_paths_unresolved") == (False, 0, None)
    assert service(seen, PG)["needs_daemon_reload"] is True


def test_a_databases_path_in_its_containers_layer_is_called_that() -> None:
    """The path is inside a lasting disk and goes all the same, with the container."""
    data = path(look("docker-host"), "docker-0123456789ab", "/var/lib/postgresql/data")

    assert some(data, "container_layer", "container_volume", "mountpoint", "fstype") == (
        True,
        "",
        "/",
        "overlay",
    )


def test_volumes_of_containers_are_told_apart_and_end_on_the_machines_disks() -> None:
    seen = look("docker-host")

    found = {
        place: some(
            path(seen, "docker-bbbbbbbbbbbb", place), "container_volume", "mountpoint", "machine_path"
        )
        for place in ("/var/lib/mysql", "/logs", "/bound")
    }
    anonymous = "0123456789abcdef" * 4
    assert found == {
        "/var/lib/mysql": ("anonymous", "/", f"/var/lib/docker/volumes/{anonymous}/_data"),
        "/logs": ("named", "/mnt", "/mnt/docker/volumes/logs/_data"),
        "/bound": ("bind", "/", "/opt/bound"),
    }


def test_a_layer_that_ignores_syncs_is_told() -> None:
    seen = look("docker-host")

    assert path(seen, "libpod-cccccccccccc", "/data")["syncs_ignored"] is True
    assert path(seen, "docker-0123456789ab", "/var/lib/postgresql/data")["syncs_ignored"] is False


def test_what_may_not_be_followed_is_unresolved_and_says_which_right_is_missing() -> None:
    seen = look("no-rights")

    wal, facts = path(seen, PG, f"{HOME}/pg_wal"), service(seen, PG)
    assert some(wal, "resolved", "exists", "mountpoint", "volatile", "shadowed") == (
        False,
        None,
        None,
        None,
        None,
    )
    assert facts["state_paths_unresolved"] == 1
    assert facts["state_unresolved"] == f"{HOME}/pg_wal: Permission denied"
    assert "grant CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH" in seen.missing[PG]


def test_one_missing_right_is_one_fact_of_the_node() -> None:
    """Three services are out of sight for want of it. etcd is not: it does not run, and no right would show more."""
    seen = look("no-rights")

    [node] = [each.facts for each in seen.resources if each.kind == "node"]
    denied = {each.name: each.facts.get("state_denied") for each in seen.resources if each.kind == "service"}
    assert denied == {PG: True, "redis-server.service": True, "mongod.service": True, "etcd.service": False}
    assert node == {
        "services_out_of_sight": 3,
        "services_out_of_sight_right": "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
    }


def test_another_reason_than_the_right_is_not_blamed_on_it() -> None:
    raw = recorded(StatePaths, "no-rights")
    first = next(each for each in raw.services if each.name == PG)
    places = {place: Place(error="Too many levels of symbolic links") for place in first.places}
    looped = msgspec.structs.replace(raw, services=[msgspec.structs.replace(first, places=places)])

    seen = StatePaths(ProbeContext(node="n", boot_id="b")).interpret(looped)

    assert service(seen, PG)["state_denied"] is False


def test_the_machines_view_of_a_redirected_path_is_not_taken_for_the_services() -> None:
    """/tmp/redis is there on the machine, and is not what a service with a private /tmp writes to."""
    seen = look("no-rights")

    assert path(seen, "redis-server.service", "/tmp/redis")["resolved"] is False
    assert path(seen, PG, HOME)["resolved"] is True


def test_a_database_whose_files_cannot_be_read_at_all_is_stateful_and_unknown() -> None:
    """C-25: silence about it would look like health."""
    facts = service(look("no-rights"), "mongod.service")

    assert some(facts, "stateful", "state_paths_unresolved", "state_unresolved") == (
        True, 1, "/etc/mongod.conf cannot be read; what it sets is not known",
    )  # fmt: skip


def test_a_service_that_stopped_keeps_its_paths() -> None:
    """It may not run because its volume is gone: that is the last moment to forget where it was."""
    seen = look("no-rights")

    data, facts = path(seen, "etcd.service", "/srv/etcd"), service(seen, "etcd.service")
    assert some(data, "resolved", "mountpoint", "shadowed") == (True, "/srv", None)
    assert some(facts, "stateful", "syncs_disabled") == (True, None)


def test_a_path_on_another_machine_is_known_by_its_mount_and_not_touched() -> None:
    wal = path(look("no-rights"), "etcd.service", "/nfs/etcd-wal")

    assert some(wal, "resolved", "fstype", "exists") == (True, "nfs4", None)


def test_what_was_left_out_is_told() -> None:
    seen = look("no-rights")

    assert seen.missing["processes"] == "12 processes were not looked at"
    assert seen.missing["units"].endswith("what units declare and depend on is not known")


def elsewhere(raw: StatePathsRaw, inode: int) -> StatePathsRaw:
    """The recording with etcd's folder replaced by another one."""
    etcd = next(each for each in raw.services if each.name == "etcd.service")
    places = {**etcd.places, "/srv/etcd": msgspec.structs.replace(etcd.places["/srv/etcd"], inode=inode)}
    return msgspec.structs.replace(raw, services=[msgspec.structs.replace(etcd, places=places)])


def test_a_database_that_moved_within_a_boot_is_told_with_both_places() -> None:
    """The first one, however often it moves: that is where its state was."""
    probe = StatePaths(ProbeContext(node="n", boot_id="b"))
    raw = recorded(StatePaths, "debian-12-databases")
    probe.interpret(raw)

    seen = [path(probe.interpret(elsewhere(raw, inode)), "etcd.service", "/srv/etcd") for inode in (777, 778)]

    assert [some(data, "moved", "moved_from", "fingerprint") for data in seen] == [
        (True, "5555555555555555:501 on /srv", "5555555555555555:777"),
        (True, "5555555555555555:501 on /srv", "5555555555555555:778"),
    ]


def test_a_database_that_came_back_has_not_moved() -> None:
    """Something was mounted over it, and unmounted again: that is no second move, and the first is mended."""
    probe = StatePaths(ProbeContext(node="n", boot_id="b"))
    raw = recorded(StatePaths, "debian-12-databases")
    probe.interpret(raw)
    probe.interpret(elsewhere(raw, 777))

    seen = [path(probe.interpret(raw), "etcd.service", "/srv/etcd")["moved"] for _ in range(2)]

    assert seen == [False, False]


def test_a_database_that_was_stopped_and_started_elsewhere_has_moved() -> None:
    """Nobody saw it in between: it is known by its process."""
    probe = StatePaths(ProbeContext(node="n", boot_id="b"))
    raw = recorded(StatePaths, "debian-12-databases")
    others = [each for each in raw.services if each.name != "etcd.service"]
    probe.interpret(raw)
    probe.interpret(msgspec.structs.replace(raw, services=others))

    data = path(probe.interpret(elsewhere(raw, 777)), "etcd.service", "/srv/etcd")

    assert some(data, "moved", "moved_from") == (True, "5555555555555555:501 on /srv")


def test_nothing_moves_by_a_boot() -> None:
    """Ids of filesystems are the boot's own; what was there before it says nothing."""
    context = ProbeContext(node="n", boot_id="b")
    StatePaths(context).interpret(recorded(StatePaths, "debian-12-databases"))
    after = elsewhere(recorded(StatePaths, "debian-12-databases"), 777)

    booted = StatePaths(msgspec.structs.replace(context, boot_id="c"))

    assert path(booted.interpret(after), "etcd.service", "/srv/etcd")["moved"] is False


@pytest.mark.parametrize("during_a_look", [False, True])
def test_a_mount_that_this_boot_knew_is_missed_without_fstab(during_a_look: bool) -> None:
    """Mounted by hand, or by a unit: the path was on it, and now it is on the disk below. It may go while a look is
    taken, between the service's list of mounts and the machine's."""
    probe = StatePaths(ProbeContext(node="n", boot_id="b"))
    raw = recorded(StatePaths, "debian-12-databases")
    probe.interpret(raw)
    gone = "\n".join(line for line in raw.machine_mounts.splitlines() if " /srv " not in line)
    etcd = next(each for each in raw.services if each.name == "etcd.service")
    places = {
        name: msgspec.structs.replace(place, mount_id=28, inode=3) for name, place in etcd.places.items()
    }
    etcd = msgspec.structs.replace(
        etcd, places=places, view=msgspec.structs.replace(etcd.view, mountinfo=gone)
    )
    after = msgspec.structs.replace(raw, machine_mounts=gone, own_mounts=gone, fstab="", services=[etcd])
    if during_a_look:
        probe.interpret(msgspec.structs.replace(raw, machine_mounts=gone))

    seen = [path(probe.interpret(after), "etcd.service", "/srv/etcd") for _ in range(2)]

    assert [some(each, "mount_missing", "missing_mountpoint") for each in seen] == [(True, "/srv")] * 2


def test_a_node_with_more_paths_than_a_message_carries_keeps_those_of_databases() -> None:
    raw = recorded(StatePaths, "debian-12-databases")
    many = [
        ServiceRaw(
            name=f"a{number:03}.service", found=raw.services[3].found[:1], places=raw.services[3].places
        )
        for number in range(PATHS_MAX + 20)
    ]

    seen = StatePaths(ProbeContext(node="n")).interpret(
        msgspec.structs.replace(raw, services=[*many, *raw.services])
    )

    kept = [each.name for each in seen.resources if each.kind == "state_path"]
    assert len(kept) == PATHS_MAX
    assert name_of(PG, HOME) in kept
    assert (
        seen.missing["state paths"] == "there are more than a report carries; those of databases come first"
    )


def test_a_machine_without_services_has_no_data() -> None:
    with pytest.raises(NoData):
        StatePaths(ProbeContext(node="n")).interpret(
            StatePathsRaw(machine_mounts="", own_mounts="", fstab="")
        )


def test_a_section_never_outgrows_a_message_however_long_the_names_are() -> None:
    """A report that is too large is sent by nobody, and everything in it would be unknown."""
    raw = recorded(StatePaths, "debian-12-databases")
    found = raw.services[3].found[0]
    places = raw.services[3].places
    many = [
        ServiceRaw(
            name=f"{'s' * 200}{number:03}.service",
            found=(msgspec.structs.replace(found, path=f"/{number}/{'p' * 480}"),),
            places={
                f"/{number}/{'p' * 480}": msgspec.structs.replace(
                    places[found.path], resolved_path="/" + "r" * 480
                )
            },
            view=raw.services[3].view,
        )
        for number in range(PATHS_MAX)
    ]

    seen = StatePaths(ProbeContext(node="n")).interpret(msgspec.structs.replace(raw, services=many))

    assert 100_000 < len(msgspec.json.encode(seen.resources)) <= SECTION_BYTES_MAX
    assert "state paths" in seen.missing
