"""`systemd/README.md`, carried out: its commands, in order and as they stand, on a systemd of the test's own.

Broker, collector and agent run as the units say, hardened, with their own users and mutual TLS. What a probe may not
see in there it would not see on any machine.
"""

import json
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast_agent.registry import probe_kinds
from holdfast_wire.vocabulary.probe import EXTRA_RIGHT_PROBES
from tests import needs
from tests.rigs.loop_disk import LoopDisk
from tests.rigs.systemd_box import SystemdBox
from tests.waiting import wait_for

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
README = ROOT / "systemd" / "README.md"
FETCHES = re.compile(r"^(apt-get|python3 -m venv|/opt/holdfast/bin/pip) ")
"""Commands that would load from the network what the test brings along."""
NAMES = "broker=127.0.0.1\nnode=web-1\n"
DISK = "/srv"
"""Where the box has a disk of its own, as in the page's example."""

BENEATH = "/media"
"""Where a mount hides a file."""

ROOTS_OWN = {"request_errors"}
"""Probes that work in an agent that root runs, whatever rights it has."""
DEAR = EXTRA_RIGHT_PROBES - ROOTS_OWN
"""Probes whose right the unit does not give, for it is nearly all of root."""

WRAPPER = """\
#!/bin/sh
exec env PYTHONPATH=/opt/holdfast/lib:/opt/holdfast/agent:/opt/holdfast/collector:/opt/holdfast/rules \\
  PYTHONDONTWRITEBYTECODE=1 LD_LIBRARY_PATH=/opt/python/lib /opt/python/bin/{python} -m {module} "$@"
"""


def steps(heading: str) -> str:
    """The shell blocks under a heading, without what the network is needed for."""
    section = README.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert blocks, f"{README} has no commands under {heading!r}"
    return "".join(line for block in blocks for line in block.splitlines(True) if not FETCHES.match(line))


class Installed:
    """The box with everything installed."""

    def __init__(self, box: SystemdBox, disk: LoopDisk) -> None:
        self.box = box
        self.disk = disk

    def do(self, commands: str) -> str:
        """Run as an operator's shell would; the first failure fails the test."""
        return self.box.run("bash", "-euxo", "pipefail", "-c", NAMES + commands)

    def api(self, path: str) -> Any:
        """What the collector answers; {} when it does not."""
        asked = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:9760{path}').read().decode())"
        text = self.box.run("/opt/python/bin/python", "-c", asked, check=False)
        return json.loads(text) if text.startswith("{") else {}

    def node(self) -> Any:
        return self.api("/api/v1/nodes/web-1")

    def facts(self, kind: str, name: str) -> dict[str, Any]:
        rows = self.node().get("resources", [])
        return next((row["facts"] for row in rows if (row["kind"], row["name"]) == (kind, name)), {})

    def statuses(self) -> dict[str, str]:
        """Probe → how its newest run ended."""
        return {row["probe"]: row["status"] for row in self.node().get("sections", [])}

    def firing(self) -> set[tuple[str, str]]:
        rows = self.api("/api/v1/alerts?state=firing").get("alerts", [])
        return {(row["alertname"], row["resource"]) for row in rows}

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        said = self.box.run("systemctl", "show", unit, *(f"--property={name}" for name in properties))
        return dict(line.split("=", 1) for line in said.splitlines())

    def journal(self, unit: str) -> str:
        return self.box.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")


def bring_program(box: SystemdBox) -> None:
    """What `pip install` would have done: this Python, its libraries and this checkout, where ProtectHome hides none."""
    for name in ("lib", "bin", "share/holdfast", *(packages := ("agent", "collector", "rules"))):
        box.run("mkdir", "-p", f"/opt/holdfast/{name}")
    box.run("mkdir", "-p", "/opt/python", "/opt/holdfast/share/holdfast/systemd")
    binds = {
        sys.base_prefix: "/opt/python",
        sysconfig.get_path("purelib"): "/opt/holdfast/lib",
        str(ROOT / "systemd"): "/opt/holdfast/share/holdfast/systemd",
        **{str(ROOT / name): f"/opt/holdfast/{name}" for name in packages},
    }
    for source, target in binds.items():
        box.run("mount", "--bind", source, target)
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    modules = {"agent": "holdfast_agent", "collector": "holdfast_collector"}
    programs = {"holdfast": "holdfast", **{f"holdfast-{part}": module for part, module in modules.items()}}
    for program, module in programs.items():
        path = box.root / "opt/holdfast/bin" / program
        path.write_text(WRAPPER.format(python=python, module=module))
        path.chmod(0o755)
    box.run("ln", "-sf", python, "/opt/python/bin/python", check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    needs.root()
    for program, package in {"mosquitto": "mosquitto", "openssl": "openssl"}.items():
        needs.tool(program, package=package)
    needs.condition(
        Path("/lib/systemd/system/mosquitto.service").exists(), "needs Debian's mosquitto.service"
    )
    folder = tmp_path_factory.mktemp("installation")
    with LoopDisk(folder, "ext4") as disk:
        disk.unmount()  # the box shall be the only one that has it mounted
        yield from _installed(folder, disk)


def _installed(folder: Path, disk: LoopDisk) -> Iterator[Installed]:
    with SystemdBox(folder) as box:
        bring_program(box)
        # As systemd does at boot outside containers: what is unmounted is unmounted in units' namespaces, too.
        box.run("mount", "--make-rshared", "/")
        number = disk.name.removeprefix("loop")
        box.run("bash", "-euc", f"mknod /dev/{disk.name} b 7 {number}; mount /dev/{disk.name} {DISK}")
        box.show_kernel_log()  # for the unit's right to read one is on trial
        # Something to look beneath.
        box.run("bash", "-euc", f"echo old > {BENEATH}/hidden; mount -t tmpfs tmpfs {BENEATH}")
        installed = Installed(box, disk)
        for heading in ("Certificates", "Broker", "Collector", "Agent"):
            installed.do(steps(heading))
        wait_for(
            lambda: len(installed.node().get("sections", [])) > len(probe_kinds()),
            what=lambda: installed.journal("holdfast-agent") + installed.journal("holdfast-collector"),
        )
        yield installed


def test_both_services_run_and_the_node_reports_over_mutual_tls(installed: Installed) -> None:
    states = [
        installed.show(unit, "ActiveState", "SubState") for unit in ("holdfast-agent", "holdfast-collector")
    ]
    listeners = installed.box.run("ss", "-Hltn").split()

    assert states == [{"ActiveState": "active", "SubState": "running"}] * 2
    assert installed.node()["node"]["state"] == "reporting"
    assert not any(place.endswith(":1883") for place in listeners)


def test_in_its_unit_the_agent_sees_all_there_is(installed: Installed) -> None:
    """The hardening must not blind it: kernel log, journal, services, clock, filesystems that only look read-only."""
    detail = wait_for(
        lambda: (
            (now := installed.node())
            and any(row["probe"] == "witness" and row["missing"] for row in now["sections"])
            and now
        ),
        what=lambda: f"the witness to say what it may not: {installed.node()['sections']}",
    )
    unavailable = {row["name"]: row["reason"] for row in detail["capabilities"] if not row["available"]}
    missing = {row["probe"]: row["missing"] for row in detail["sections"] if row["missing"]}
    root = installed.facts("volume", "/")

    # It is the box's first boot: there is no previous run, and the probe has looked everywhere. The loop devices are
    # those of the machine around it, with files the box does not have.
    unavailable = {name: why for name, why in unavailable.items() if not name.startswith("loop_backing.")}
    missing.pop("loop_backing", None)
    nothing = "nothing shows how the previous run ended"
    witness = missing.pop("witness", {})
    # Into other users' processes it looks only where the operator lets it, and it says so, service by service.
    # The same holds of the sockets of container engines, where the machine has one.
    inside = {name: why for name, why in unavailable.items() if name.startswith("state_paths.")}
    assert all("CAP_SYS_PTRACE" in why for name, why in inside.items() if not name.endswith(".sock"))
    assert all(why.startswith("only root") for name, why in inside.items() if name.endswith(".sock"))
    unavailable = {name: why for name, why in unavailable.items() if not name.startswith("state_paths.")}
    missing.pop("state_paths", None)
    # Whether the kernel accounts for a service's memory is no right, and the box is not given that controller.
    unavailable.pop("services_systemd.oom_kills_total", None)
    assert missing.pop("services_systemd", {}).keys() <= {"oom_kills_total"}
    dear = {name: why for name, why in unavailable.items() if name in DEAR}
    assert set(dear) == DEAR
    assert all("CAP_SYS_ADMIN" in why for why in dear.values())
    assert {name for name, why in unavailable.items() if "root's" in why} == ROOTS_OWN
    assert {name: why for name, why in unavailable.items() if name not in EXTRA_RIGHT_PROBES} in (
        {},
        {"host.boot_dirty": nothing},
    )
    assert "root's" in missing.pop("request_errors")["watch"]
    assert missing in ({}, {"host": {"boot_dirty": nothing}})
    statuses = installed.statuses()
    # What else the box shows of this machine's disks is not granted either.
    assert (statuses.pop("witness"), DISK in witness) == ("denied", True)
    assert {
        name for name, status in statuses.items() if status not in ("ok", "no_data")
    } == EXTRA_RIGHT_PROBES
    for name in ("host", "kernel_log", "services_systemd", "volumes", "mount_options", "stalls"):
        assert statuses[name] == "ok", name
    assert (root["writable"], root["read_only"]) == (True, False)
    assert "clock_synchronized" in installed.facts("node", "web-1")
    assert installed.facts("service", "holdfast-agent.service")["up"] is True


def test_what_only_root_may_ask_lies_ready_for_the_agents_group_alone(installed: Installed) -> None:
    wait_for(
        lambda: (installed.box.root / "run/holdfast-devices/smart.json").exists(),
        what=lambda: installed.journal("holdfast-devices"),
    )
    listed = installed.box.run(
        "stat", "-c", "%U:%G %a %n", "/run/holdfast-devices", "/run/holdfast-devices/lvm.json"
    )
    result = installed.show("holdfast-devices.service", "Result", "ExecMainStatus")

    assert listed.splitlines() == [
        "root:holdfast-agent 750 /run/holdfast-devices",
        "root:holdfast-agent 640 /run/holdfast-devices/lvm.json",
    ]
    assert result == {"Result": "success", "ExecMainStatus": "0"}, installed.journal("holdfast-devices")


def test_volume_is_witnessed_once_the_page_was_followed_and_can_still_be_unmounted(
    installed: Installed,
) -> None:
    """Unmounted for good, also in the unit's own namespace: the device is free again."""
    device = f"/dev/{installed.disk.name}"
    before = installed.facts("volume", DISK)
    installed.do(steps("Witnessed volumes"))
    facts = wait_for(
        lambda: (
            (now := installed.facts("volume", DISK)).get("witness_enabled")
            and now.get("witness_records_total")
            and now
        ),
        what=lambda: f"{installed.facts('volume', DISK)}\n{installed.journal('holdfast-agent')}",
    )
    owner = installed.box.run("stat", "-c", "%U", f"{DISK}/.holdfast").strip()
    installed.box.run("umount", DISK)
    # An exclusive open fails while the device is mounted anywhere (open(2), O_EXCL on a block device).
    exclusive = f"import os; os.open({device!r}, os.O_RDWR | os.O_EXCL); print('free')"
    said = installed.box.run("/opt/python/bin/python", "-c", exclusive)
    installed.box.run("mount", device, DISK)

    assert (before["witness_enabled"], f"ReadWritePaths={DISK}" in before["witness_reason"]) == (False, True)
    assert (facts["witness_mode"], facts["witness_failed"], owner) == ("direct", False, "holdfast-agent")
    assert said == "free\n"


def test_a_service_that_fails_is_on_the_page(installed: Installed) -> None:
    installed.box.unit(
        "doomed.service", "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
    )
    installed.box.run("systemctl", "enable", "--now", "doomed")
    wait_for(lambda: installed.facts("service", "doomed.service"), what="the agent to see the service")
    installed.box.run("systemctl", "kill", "--signal=SIGKILL", "doomed")
    wait_for(lambda: ("ServiceFailed", "doomed.service") in installed.firing(), what="the alert")
    told = installed.box.run("/opt/holdfast/bin/holdfast", "alerts", check=False)

    assert "doomed.service" in told


@pytest.mark.parametrize("unit", ["holdfast-agent", "holdfast-collector"])
def test_a_killed_service_is_started_again(installed: Installed, unit: str) -> None:
    before = installed.show(unit, "MainPID")["MainPID"]
    installed.box.run("kill", "-9", before)
    wait_for(
        lambda: (
            (now := installed.show(unit, "MainPID", "SubState"))["SubState"] == "running"
            and now["MainPID"] not in {"0", before}
        ),
        what=f"{unit} to run again",
    )
    wait_for(
        lambda: (installed.node().get("node") or {}).get("state") == "reporting", what="the node's report"
    )

    assert installed.show(unit, "NRestarts")["NRestarts"] == "1"


@pytest.mark.parametrize(
    ("unit", "event"),
    [("holdfast-agent", "configuration applied"), ("holdfast-collector", "configuration reloaded")],
)
def test_a_reload_is_taken_and_changes_no_process(installed: Installed, unit: str, event: str) -> None:
    before = installed.show(unit, "MainPID")
    installed.box.run("systemctl", "reload", unit)
    wait_for(lambda: event in installed.journal(unit), what=lambda: installed.journal(unit))

    assert installed.show(unit, "MainPID") == before


def test_with_the_drop_in_of_the_page_the_agent_looks_beneath_mountpoints(installed: Installed) -> None:
    """And without it no more: what it may do is what its unit says now."""
    dropins = re.findall(r"^```ini\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    dropin = [text for text in dropins if "CAP_SYS_ADMIN" in text]
    folder = installed.box.root / "etc/systemd/system/holdfast-agent.service.d"
    folder.mkdir(exist_ok=True)
    (folder / "beneath.conf").write_text(dropin[0])
    installed.do("systemctl daemon-reload; systemctl restart holdfast-agent")
    wait_for(
        lambda: {installed.statuses().get(name) for name in DEAR} == {"ok"},
        what=lambda: str(installed.statuses()) + installed.journal("holdfast-agent"),
    )
    hidden = installed.facts("volume", BENEATH)["stranded"]
    (folder / "beneath.conf").unlink()
    installed.do("systemctl daemon-reload; systemctl restart holdfast-agent")
    wait_for(lambda: {installed.statuses().get(name) for name in DEAR} == {"denied"}, what="the denial")

    assert len(dropin) == 1
    assert str(hidden).endswith("hidden by the mount: hidden")


def test_services_stop_cleanly_and_nothing_was_denied_them(installed: Installed) -> None:
    """Last: a denied system call or a killed stop would show here."""
    units = ["holdfast-agent", "holdfast-collector"]
    installed.box.run("systemctl", "stop", *units)
    results = [installed.show(unit, "Result", "ExecMainStatus") for unit in units]
    logs = {unit: installed.journal(unit) for unit in units}

    assert results == [{"Result": "success", "ExecMainStatus": "0"}] * 2
    assert [
        unit for unit, log in logs.items() if "Traceback" in log or "Operation not permitted" in log
    ] == []


def test_removing_leaves_nothing(installed: Installed) -> None:
    commands = steps("Changing, upgrading, removing").partition("systemctl disable")
    removal = commands[1] + commands[2]
    # What the test mounted instead of installing cannot be removed.
    installed.do(removal.replace(" /opt/holdfast ", " "))
    left = installed.box.run("find", "/etc", "/var/lib", "-iname", "*holdfast*")
    accounts = (installed.box.root / "etc/passwd").read_text().splitlines()
    users = {line.partition(":")[0] for line in accounts}

    assert left == ""
    assert users & {"holdfast-agent", "holdfast-collector"} == set()
