"""Backups that rest on the disk they are to replace: told from each other by what their mounts end on."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.state_facts import name_of
from holdfast_agent.probes.state_paths_linux import DeclaredPath, StatePaths, StatePathSettings
from tests.agent.probes.recordings import recorded
from tests.rigs.databases import Databases
from tests.rigs.loop_disk import LoopDisk, available

PG = "postgresql@15-main.service"


def backups(probe: StatePaths, raw: Any) -> dict[str, tuple[Any, Any]]:
    """Name → (whether it shares one, which) of every backup."""
    return {
        each.name: (each.facts.get("same_disk_as_data"), each.facts.get("same_disk_as"))
        for each in probe.interpret(raw).resources
        if each.facts.get("role") == "backup"
    }


@pytest.fixture(scope="module")
def seen() -> dict[str, tuple[Any, Any]]:
    return backups(StatePaths(ProbeContext(node="n", boot_id="b")), recorded(StatePaths, "backups"))


def test_logical_volumes_of_one_group_are_one_disk(seen: dict[str, tuple[Any, Any]]) -> None:
    """They look like two devices with two filesystems; the log of changes lies there, too, and is named beside it."""
    assert seen[name_of(PG, "/backup/wal")] == (True, f"{PG}:/srv/pg on sdb; {PG}:/srv/pg/pg_wal on sdb")


def test_another_disk_is_another(seen: dict[str, tuple[Any, Any]]) -> None:
    assert seen[name_of(PG, "/vault/base")] == (False, "")


@pytest.mark.parametrize(
    ("service", "path", "on"),
    [
        ("mysql.service", "/nas/dumps/mysql", "mysql.service:/nas/db/mysql on server nas-1"),
        ("redis-server.service", "/tank/dumps", "redis-server.service:/tank/redis on zpool tank"),
    ],
)
def test_a_server_and_a_pool_are_one_whatever_the_export_or_the_dataset(
    seen: dict[str, tuple[Any, Any]], service: str, path: str, on: str
) -> None:
    assert seen[name_of(service, path)] == (True, on)


def test_a_filesystem_that_shows_no_device_is_no_other_disk(seen: dict[str, tuple[Any, Any]]) -> None:
    """No data is never health."""
    assert seen[name_of("odd.service", "/odd/dumps")] == (None, None)


def test_a_service_of_backups_alone_keeps_those_of_all_others() -> None:
    """Its disk is nobody's data; but one whose data nobody can follow might be there, and then it is unknown."""
    raw = recorded(StatePaths, "backups")
    probe = StatePaths(ProbeContext(node="n", boot_id="b"))
    job = name_of("backup.timer-job.service", "/vault")

    alone = backups(probe, raw)[job]
    raw.services[:] = [
        service for service in raw.services if service.name in ("backup.timer-job.service", PG)
    ]
    raw.services[0].places["/vault"] = raw.services[1].places["/srv/pg"]
    moved = backups(probe, raw)[job]

    assert alone == (False, "")
    assert moved == (True, f"{PG}:/srv/pg on sdb; {PG}:/srv/pg/pg_wal on sdb")


def test_where_no_backup_is_known_nothing_below_the_mounts_is_read() -> None:
    """It costs a look at every block device."""
    assert recorded(StatePaths, "debian-12-databases").media is None


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    with Databases() as databases:
        yield databases


@pytest.mark.system
def test_two_loop_devices_on_one_filesystem_are_one_disk(databases: Databases) -> None:
    """Two real filesystems with a running Redis on one of them; a third place is memory, which is no disk at all."""
    available("ext4")
    first, second = databases.folder / "first", databases.folder / "second"
    first.mkdir()
    second.mkdir()
    elsewhere = databases.memory("elsewhere")
    with LoopDisk(first, "ext4") as data, LoopDisk(second, "ext4") as kept:
        server = databases.redis(data.mountpoint / "redis")
        name = f"redis:{server.folder}"
        settings = StatePathSettings(
            declare=tuple(
                DeclaredPath(service=name, path=str(path), role="backup")
                for path in (kept.mountpoint, elsewhere)
            )
        )
        probe = StatePaths(ProbeContext(node="n", boot_id="b", settings=settings))

        found = backups(probe, probe.read())

        os.kill(server.pid, signal.SIGKILL)
        os.waitpid(server.pid, 0)
    shared, where = found[name_of(name, str(kept.mountpoint))]
    assert (shared, where.partition(" on ")[0]) == (True, name_of(name, str(server.folder)))
    assert found[name_of(name, str(elsewhere))] == (False, "")
