"""What a unit declares of its paths, as systemd's properties have it, and which mounts it cannot start without."""

import pytest

from holdfast_agent.probes.mountinfo import FstabEntry
from holdfast_agent.probes.state_raw import UnitRaw
from holdfast_agent.probes.unit_paths import declared_paths, depends_on, mount_of_unit
from holdfast_agent.probes.unit_reading_linux import unit_raw


def test_declared_directories_have_the_roles_of_their_kind() -> None:
    unit = UnitRaw(
        state_directories=("app", "more/app:alias"),
        cache_directories=("app",),
        logs_directories=("app",),
        configuration_directories=("app",),
        read_write_paths=("-/srv/data", "+/var/log/other", "/run/app", "/", "/tmp", "/etc"),
        bind_paths=("/var/lib/bound",),
    )

    assert {found.path: found.role for found in declared_paths(unit)} == {
        "/var/lib/app": "data",
        "/var/lib/more/app": "data",
        "/var/cache/app": "cache",
        "/var/log/app": "log",
        "/etc/app": "config",
        "/srv/data": "data",
        "/var/log/other": "log",
        "/var/lib/bound": "data",
    }
    assert {found.confidence for found in declared_paths(unit)} == {"medium"}


def entry(options: str) -> FstabEntry:
    return FstabEntry(mountpoint="/srv", fstype="ext4", options=tuple(options.split(",")))


@pytest.mark.parametrize(
    ("unit", "options", "depends"),
    [
        (UnitRaw(), None, False),
        (UnitRaw(requires_mounts_for=("/srv/db",)), None, True),
        (UnitRaw(requires_mounts_for=("/srv",)), None, True),
        (UnitRaw(requires_mounts_for=("/srv2",)), None, False),
        (UnitRaw(required_units=("srv.mount",)), None, True),
        (UnitRaw(required_units=("srv-db.mount",)), None, False),
        (UnitRaw(required_units=("sysinit.target",)), "defaults", True),
        (UnitRaw(required_units=("sysinit.target",)), "defaults,nofail", False),
        (UnitRaw(), "defaults", False),
    ],
)
def test_a_unit_depends_on_a_mount_by_name_by_path_or_by_a_boot_that_would_stop(
    unit: UnitRaw, options: str | None, depends: bool
) -> None:
    assert depends_on(unit, "/srv", None if options is None else entry(options)) is depends


def test_every_unit_depends_on_the_root() -> None:
    assert depends_on(UnitRaw(), "/", None)


def test_a_mount_units_name_is_its_path_escaped() -> None:
    assert [mount_of_unit(name) for name in ("-.mount", "srv-pg\\x2ddata.mount")] == ["/", "/srv/pg-data"]


def test_properties_of_old_and_new_systemd_are_read_alike() -> None:
    """PrivateTmp became a word in 257; a working directory may carry the marks of a unit file."""
    old = unit_raw({"PrivateTmp": True, "WorkingDirectory": "!/srv"}, {})
    new = unit_raw({"PrivateTmp": "disconnected", "WorkingDirectory": "/srv"}, {"NeedDaemonReload": True})
    bound = unit_raw(
        {"BindPaths": [("/a", "/b", False, 0)], "ExecStart": [("/bin/x", ["/bin/x", "-c"], False, 0)]}, {}
    )

    assert (old.private_tmp, old.working_directory, new.private_tmp) == (True, "/srv", True)
    assert (new.need_daemon_reload, bound.bind_paths, bound.started_as) == (True, ("/b",), ("/bin/x", "-c"))
