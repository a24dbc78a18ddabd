"""Units of a real systemd: private folders, bound ones, state directories, mounts they require, and what stays of a stopped one."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast_agent.probes.state_facts import name_of
from tests import needs
from tests.rigs.systemd_box import SystemdBox
from tests.tidy import ROOT

pytestmark = pytest.mark.system

LOOK = """
import json, subprocess, sys, time
import msgspec
from holdfast_agent.probe import ProbeContext
from holdfast_agent.probes.state_paths_linux import StatePaths
probe = StatePaths(ProbeContext(node="n", boot_id="b"))
def look():
    seen = probe.interpret(probe.read())
    return {f"{each.kind} {each.name}": each.facts for each in seen.resources} | {"missing": seen.missing}
looks = [look()]
for command in sys.argv[1:]:
    subprocess.run(command.split(), check=True)
    looks.append(look())
print(json.dumps(looks))
"""
REDIS = """[Unit]
Description=keeps something
{unit}
[Service]
Type=notify
ExecStart={daemon} /etc/{name}.conf --supervised systemd --daemonize no
{service}
[Install]
WantedBy=multi-user.target
"""
Seen = dict[str, dict[str, Any]]


class Ward:
    """A booted systemd with services that keep something."""

    def __init__(self, box: SystemdBox) -> None:
        self._box = box
        self._daemon = needs.tool("redis-server", package="redis-server")

    def redis(self, name: str, folder: str, *, unit: str = "", service: str = "") -> None:
        (self._box.root / "etc" / f"{name}.conf").write_text(
            f"port 0\nunixsocket /run/{name}.sock\ndir {folder}\nappendonly yes\n"
        )
        text = REDIS.format(unit=unit, service=service, name=name, daemon=self._daemon)
        self._box.unit(f"{name}.service", text)
        self._box.run("systemctl", "enable", "--now", f"{name}.service")

    def looks(self, *commands: str) -> list[Seen]:
        """What the probe says inside, first and after each command."""
        inside = ("env", f"PYTHONPATH={ROOT / 'agent'}", sys.executable, "-c", LOOK, *commands)
        looks: list[Seen] = json.loads(self._box.run(*inside))
        return looks


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Seen]]:
    """All looks of one boot, which takes the time: at first, with a changed unit file, and with a stopped service."""
    needs.tool("redis-server", package="redis-server")
    with SystemdBox(tmp_path_factory.mktemp("units")) as box:
        ward = Ward(box)
        for folder in ("disk", "really"):
            box.run("mkdir", "-p", f"/srv/{folder}")
        box.run("mkdir", "-p", "/var/lib/bound")
        box.run("mount", "-t", "tmpfs", "-o", "size=16M", "tmpfs", "/srv/disk")
        box.run("mkdir", "/srv/disk/a", "/srv/disk/b")
        ward.redis("private", "/tmp", service="PrivateTmp=yes")
        ward.redis("careless", "/srv/disk/a")
        ward.redis("careful", "/srv/disk/b", unit="RequiresMountsFor=/srv/disk/b")
        ward.redis("bound", "/var/lib/bound", service="BindPaths=/srv/really:/var/lib/bound")
        box.unit(
            "declaring.service",
            "[Service]\nExecStart=/bin/sleep infinity\nDynamicUser=yes\nStateDirectory=thing\nLogsDirectory=thing\n",
        )
        box.run("systemctl", "start", "declaring.service")
        changed = box.root / "etc/systemd/system/careful.service"
        changed.write_text(changed.read_text() + "\nNice=1\n")
        yield ward.looks("systemctl stop careless.service", "umount /srv/disk -l")


def path(look: Seen, service: str, place: str) -> dict[str, Any]:
    return look[f"state_path {name_of(service, place)}"]


def test_state_in_a_private_tmp_is_where_the_machine_keeps_it_and_goes_with_the_unit(
    seen: list[Seen],
) -> None:
    """The service says /tmp; the machine's /tmp is another one."""
    facts = path(seen[0], "private.service", "/tmp")

    assert facts["machine_path"].startswith("/tmp/systemd-private-")
    assert (facts["volatile"], facts["cleaned"]) == (True, True)
    assert facts["cleaned_by"] == "systemd removes the private /tmp of private.service when the unit stops"


def test_a_bound_folder_is_the_one_that_was_bound(seen: list[Seen]) -> None:
    facts = path(seen[0], "bound.service", "/var/lib/bound")

    assert (facts["machine_path"], facts["resolved"]) == ("/srv/really", True)


def test_a_units_state_directory_is_followed_to_where_a_dynamic_user_has_it(seen: list[Seen]) -> None:
    facts = path(seen[0], "declaring.service", "/var/lib/thing")

    assert (facts["resolved_path"], facts["role"]) == ("/var/lib/private/thing", "data")
    assert (facts["source"], facts["confidence"]) == ("systemd", "medium")
    assert path(seen[0], "declaring.service", "/var/log/thing")["role"] == "log"


def test_a_unit_that_requires_its_mount_is_told_from_one_that_does_not(seen: list[Seen]) -> None:
    required = {
        name: path(seen[0], f"{name}.service", f"/srv/disk/{folder}")["mount_dependency"]
        for name, folder in (("careless", "a"), ("careful", "b"))
    }

    assert required == {"careless": False, "careful": True}


def test_redis_is_read_by_the_configuration_systemd_started_it_with(seen: list[Seen]) -> None:
    """Its command line is a title by then; that it appends, only the file says."""
    facts = path(seen[0], "careless.service", "/srv/disk/a/appendonlydir")

    assert (facts["role"], facts["exists"]) == ("wal", True)


def test_a_changed_unit_file_that_systemd_has_not_read_is_told(seen: list[Seen]) -> None:
    told = {
        name: seen[0][f"service {name}.service"]["needs_daemon_reload"] for name in ("careful", "careless")
    }

    assert told == {"careful": True, "careless": False}


def test_a_stopped_service_keeps_its_paths_and_misses_its_mount(seen: list[Seen]) -> None:
    """A database that does not start because its disk is gone must not take its alert along."""
    _, stopped, unmounted = seen

    before, after = (path(look, "careless.service", "/srv/disk/a") for look in (stopped, unmounted))
    assert (before["mount_missing"], after["mount_missing"]) == (False, True)
    assert after["missing_mountpoint"] == "/srv/disk"
    assert "shadowed" not in after
    assert stopped["service careless.service"]["stateful"] is True


def test_a_working_directory_on_a_mount_that_was_detached_is_not_taken_for_a_path(seen: list[Seen]) -> None:
    """The kernel calls it /b then, which is nothing: what the configuration says is where the next start looks."""
    detached = {
        each["path"]: each for name, each in seen[2].items() if name.startswith("state_path careful.")
    }

    assert "/srv/disk/b" in detached
    assert [place for place in detached if place.startswith("/b")] == []
    assert detached["/srv/disk/b"]["missing_mountpoint"] == "/srv/disk"
