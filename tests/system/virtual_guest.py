"""The guest of `virtual_faults`: the shipped units in it, two volumes that the witness watches, and what the collector
on this machine knows of it.

`/srv/honest` is a disk, `/srv/lying` a mapping of one, for device-mapper can be told to drop writes. A unit of the
guest's own maps and mounts them before the agent starts, at every boot. The agent is configured as its README says, but
asks and promises more often, looks at disks only and not at services, and has the time that an emulated machine takes:
probes may take a minute, and its unit has no limit of processor time.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.rigs.virtual_machine import HOST, VirtualMachine
from tests.system.stack import Stack
from tests.system.virtual_fault_table import SHELL, create
from tests.system.witnessed import ACCUSATIONS
from tests.waiting import wait_for

NODE = "guest"
WITNESSED = ("/srv/lying", "/srv/honest")
SETTLED_SECONDS = 900.0
OF_A_SLOW_MACHINE = frozenset(
    {
        *(
            "ClockStepped",
            "ClockUnsynchronized",
            "CommitsSlow",
            "CommitsStall",
            "IoSaturated",
            "KernelTaskHung",
        ),
        *("MachineStoodStill", "ProbeBroken", "ProbeStale", "TasksHung"),
    }
)
"""What is true of a machine that is emulated on a busy one, whatever its disks do. It is shown and not counted."""
_AGENT = """
node = "{node}"
interval = "5s"
[broker]
urls = ["mqtt://{host}:{port}"]
[witness]
interval = "10s"
exclude = ["/srv/flaky"]
[probes.devices]
unidentified = "D2"
timeout = "60s"
[probes.lvm]
period = "10s"
timeout = "60s"
[probes.smart]
period = "10s"
timeout = "60s"
[probes.services_systemd]
enabled = false
[probes.state_paths]
enabled = false
"""
_SLOW_PROBES = ("host", "volumes", "expected_mounts", "mount_options", "stalls", "md")
_VOLUMES_UNIT = """
[Unit]
Before=holdfast-agent.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /usr/local/sbin/guest-volumes
[Install]
WantedBy=multi-user.target
"""
Key = tuple[str, str]
"""An alert's name and its resource."""


class Guest:
    """A machine and the collector that hears of it."""

    def __init__(self, machine: VirtualMachine, stack: Stack, *, probes: frozenset[str]) -> None:
        """`probes` must have looked before anything begins."""
        self.machine = machine
        self.stack = stack
        self._probes = probes
        self.known: set[Key] = set()
        """What fired or was about to when the trial began."""
        self.fired: dict[Key, str] = {}
        """What fired since, with its summary, gone meanwhile or not."""

    def run(self, command: str) -> str:
        """What a command in the guest printed, with the words of `virtual_fault_table.SHELL`."""
        return self.machine.run(SHELL + command)

    def lay(self) -> None:
        """Make the witnessed volumes, install the units as shipped, and start them."""
        self._make_volumes()
        self._install()
        self.run("systemctl start --no-block holdfast-devices.timer holdfast-agent")

    def settle(self) -> None:
        """Until each probe that is concerned works and each witnessed volume has promised something; what fires by then is known."""
        self.wait(self._heard, SETTLED_SECONDS, lambda: f"the guest's probes: {self._unheard()}")
        self.stack.wait_warm()
        self.begin()

    def begin(self) -> None:
        """What fires or is about to is known from here on."""
        alerts = self.stack.collector.alerts(node=NODE)
        self.known = {_key(alert) for alert in alerts if alert["state"] in ("firing", "pending")}
        self.fired = {}

    def wait(self, condition: Any, seconds: float, what: Any) -> Any:
        """`wait_for`, taking note of what fires meanwhile."""

        def looked() -> Any:
            self.look()
            return condition()

        return wait_for(looked, seconds, what, pause=1.0)

    def look(self) -> None:
        for alert in self.firing():
            self.fired.setdefault(_key(alert), alert["annotations"].get("summary", ""))

    def firing(self, alert: str = "", resource: str = "") -> list[dict[str, Any]]:
        asked = {"alertname": alert, "resource": resource}
        return self.stack.collector.firing(
            node=NODE, **{name: value for name, value in asked.items() if value}
        )

    def acknowledge(self, resources: Iterable[str]) -> None:
        """As an operator: of some resources' alerts that stay for a person, take note. Others are not changed by it."""
        for alert in self.firing():
            if alert["resource"] in resources and not alert["acknowledged"]:
                self.stack.collector.post("/api/v1/acks", {"key": alert["key"], "reason": "repaired"})

    def strangers(self, rightly: Iterable[Key]) -> dict[Key, str]:
        """What fired since the guest settled, and is neither rightly so nor of a slow machine."""
        expected = {*rightly, *self.known}
        return {
            key: summary
            for key, summary in self.fired.items()
            if key not in expected and key[0] not in OF_A_SLOW_MACHINE
        }

    def facts(self, volume: str) -> dict[str, Any]:
        return self.stack.collector.facts(NODE, "volume", volume)

    def accusations(self, volume: str) -> dict[str, Any]:
        """What is said against a witnessed volume; empty when nothing is."""
        facts = self.facts(volume)
        return {name: facts[name] for name in ACCUSATIONS if facts.get(name)}

    def promised(self) -> dict[str, int]:
        """Witnessed volume → the newest record of it that the collector holds; 0: none."""
        return {volume: int(self.facts(volume).get("witness_seq") or 0) for volume in WITNESSED}

    def read_back(self) -> dict[str, float]:
        """Witnessed volume → when the agent last read its chain, in seconds; 0: never."""
        shown = self.stack.collector.get(f"/api/v1/witness?node={NODE}")["volumes"]
        at = {volume["volume"]: float(volume["read_at"] or 0) for volume in shown}
        return {volume: at.get(volume, 0.0) for volume in WITNESSED}

    def wait_for_promises(self, count: int = 2) -> None:
        """Until the collector holds so many more records of each witnessed volume."""
        before = self.promised()
        self.wait(
            lambda: all(now >= before[volume] + count for volume, now in self.promised().items()),
            SETTLED_SECONDS,
            lambda: f"{count} more records than {before}: {self.promised()}",
        )

    def verdict(self, kind: str, resource: str) -> str:
        judged = (self.stack.collector.node(NODE) or {}).get("verdicts", [])
        return next((v["verdict"] for v in judged if (v["kind"], v["name"]) == (kind, resource)), "unknown")

    def fate(self) -> tuple[int, str]:
        """How many boots were told of, and what the newest was."""
        events = (self.stack.collector.node(NODE) or {}).get("events", [])
        fates = [event for event in events if event["type"] == "reboot_fate"]
        return (fates[0]["total"], fates[0]["last"]) if fates else (0, "")

    def _make_volumes(self) -> None:
        script = f"set -e\n{SHELL}udevadm settle\n{create('lying', '$(disk lying)')}\n"
        self.run("mkfs.ext4 -q $(disk lying) && mkfs.ext4 -q $(disk honest)")
        for volume, device in zip(
            WITNESSED, ("/dev/mapper/lying", "/dev/disk/by-id/virtio-honest"), strict=True
        ):
            self.run(
                f"mkdir -p {volume} && echo '{device} {volume} ext4 noauto,errors=remount-ro 0 0' >>/etc/fstab"
            )
            script += f"mount {volume}\n"
        self.machine.write("/usr/local/sbin/guest-volumes", script)
        self.machine.write("/etc/systemd/system/guest-volumes.service", _VOLUMES_UNIT)
        self.run("systemctl daemon-reload && systemctl enable guest-volumes && systemctl start guest-volumes")

    def _install(self) -> None:
        config = _AGENT.format(node=NODE, host=HOST, port=self.stack.broker.port)
        config += "".join(f'[probes.{name}]\ntimeout = "60s"\n' for name in _SLOW_PROBES)
        self.machine.write("/etc/holdfast/agent.toml", config)
        units = Path(__file__).parents[2] / "systemd"
        for name in ("holdfast-agent.service", "holdfast-devices.service", "holdfast-devices.timer"):
            self.machine.write(f"/etc/systemd/system/{name}", (units / name).read_text(encoding="utf-8"))
        sysusers = (units / "holdfast.sysusers.conf").read_text(encoding="utf-8")
        self.machine.write("/etc/sysusers.d/holdfast.conf", sysusers)
        for unit, lines in (
            (
                "holdfast-devices.timer",
                "[Timer]\nOnActiveSec=\nOnActiveSec=0\nOnUnitActiveSec=20s\nAccuracySec=1s\n",
            ),
            (
                "holdfast-agent.service",
                "[Service]\nCPUQuota=\n" + "".join(f"ReadWritePaths=-{v}\n" for v in WITNESSED),
            ),
        ):
            self.machine.write(f"/etc/systemd/system/{unit}.d/guest.conf", lines)
        self.run("systemd-sysusers && chmod -R a+rX /etc/holdfast && systemctl daemon-reload")
        for volume in WITNESSED:
            self.run(f"install -d -m 700 -o holdfast-agent -g holdfast-agent {volume}/.holdfast")
        self.run("systemctl enable holdfast-agent holdfast-devices.timer")

    def _heard(self) -> bool:
        return not self._unheard() and all(self.promised().values())

    def _unheard(self) -> list[str]:
        """What is missing of a first report."""
        node = self.stack.collector.node(NODE)
        if node is None:
            return ["everything"]
        sections = {section["probe"]: section for section in node["sections"]}
        working = {name for name, section in sections.items() if section["status"] in ("ok", "no_data")}
        return sorted(self._probes - working)


def _key(alert: dict[str, Any]) -> Key:
    return (alert["alertname"], alert["resource"])
