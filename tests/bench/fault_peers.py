"""The peers who watch the same faults, each with what it ships, on loopback, telling nobody: their interfaces are asked.

node_exporter has the rules of its node-mixin (docs/node-mixin/alerts/alerts.libsonnet with the thresholds of
config.libsonnet; those about systemd units are of its newer versions), in a Prometheus at its default pace. Netdata has
its health.d as packaged. monit ships no checks: it has the filesystem and process tests of its manual for every volume
and service, at Debian's cycle. collectd is not among them: its threshold plugin has no limits but those one invents.
"""

import json
import re
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.fault_watchers import Alarm, Watcher, ask, said
from tests.bench.faults import Fault
from tests.bench.processes import Program, tool
from tests.ports import free_port
from tests.waiting import wait_for

_SPACE = "node_filesystem_avail_bytes{job='node',fstype!='',mountpoint!=''} / node_filesystem_size_bytes{job='node',fstype!='',mountpoint!=''} * 100"
_FILES = "node_filesystem_files_free{job='node',fstype!='',mountpoint!=''} / node_filesystem_files{job='node',fstype!='',mountpoint!=''} * 100"
_WRITABLE = "node_filesystem_readonly{job='node',fstype!='',mountpoint!=''} == 0"
_FILLS = (
    "predict_linear(node_filesystem_{what}{{job='node',fstype!='',mountpoint!=''}}[6h], {hours}*60*60) < 0"
)
_SPACE_FILLS = {hours: _FILLS.format(what="avail_bytes", hours=hours) for hours in (24, 4)}
_FILES_FILL = {hours: _FILLS.format(what="files_free", hours=hours) for hours in (24, 4)}
MIXIN: Sequence[tuple[str, str, str, str]] = (
    ("NodeFilesystemSpaceFillingUp", "1h", "warning", f"{_SPACE} < 40 and {_SPACE_FILLS[24]} and {_WRITABLE}"),
    ("NodeFilesystemSpaceFillingUp", "1h", "critical", f"{_SPACE} < 20 and {_SPACE_FILLS[4]} and {_WRITABLE}"),
    ("NodeFilesystemAlmostOutOfSpace", "30m", "warning", f"{_SPACE} < 5 and {_WRITABLE}"),
    ("NodeFilesystemAlmostOutOfSpace", "30m", "critical", f"{_SPACE} < 3 and {_WRITABLE}"),
    ("NodeFilesystemFilesFillingUp", "1h", "warning", f"{_FILES} < 40 and {_FILES_FILL[24]} and {_WRITABLE}"),
    ("NodeFilesystemFilesFillingUp", "1h", "critical", f"{_FILES} < 20 and {_FILES_FILL[4]} and {_WRITABLE}"),
    ("NodeFilesystemAlmostOutOfFiles", "1h", "warning", f"{_FILES} < 5 and {_WRITABLE}"),
    ("NodeFilesystemAlmostOutOfFiles", "1h", "critical", f"{_FILES} < 3 and {_WRITABLE}"),
    ("NodeSystemdServiceFailed", "5m", "warning", "node_systemd_unit_state{job='node',state='failed'} == 1"),
    ("NodeSystemdServiceCrashlooping", "15m", "warning", "increase(node_systemd_service_restart_total{job='node'}[5m]) > 2"),
    ("NodeRAIDDegraded", "15m", "critical", "node_md_disks_required{job='node'} - ignoring (state) node_md_disks{job='node',state='active'} > 0"),
    ("NodeRAIDDiskFailure", "0s", "warning", "node_md_disks{job='node',state='failed'} > 0"),
    # Not of the mixin, which has nothing for it: the first example of Prometheus's own page on alerting rules.
    ("InstanceDown", "5m", "critical", "up == 0"),
)  # fmt: skip
"""(alert, for, severity, expression): what the node-mixin has on filesystems, disks, services and the node itself."""


class NodeExporter(Watcher):
    """node_exporter with its systemd collector and restart counts switched on, which by default are not."""

    name = "node_exporter"

    def __init__(self, folder: Path) -> None:
        exporter = tool("prometheus-node-exporter", package="prometheus-node-exporter")
        server = tool("prometheus", package="prometheus")
        self.version = f"{said([exporter, '--version'])}, Prometheus {said([server, '--version'])}"
        self._folder, self._exporter_port, self._port = folder, free_port(), free_port()
        self._exporter_command = [
            exporter,
            f"--web.listen-address=127.0.0.1:{self._exporter_port}",
            "--collector.systemd",
            "--collector.systemd.enable-restarts-metrics",
        ]
        folder.mkdir()
        rules, config = folder / "rules.yml", folder / "prometheus.yml"
        rules.write_text(json.dumps({"groups": [{"name": "node", "rules": [_rule(*row) for row in MIXIN]}]}))
        targets = [{"targets": [f"127.0.0.1:{self._exporter_port}"]}]
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
                    "rule_files": [str(rules)],
                    "scrape_configs": [{"job_name": "node", "static_configs": targets}],
                }
            )
        )
        self._exporter = Program("node_exporter", self._exporter_command, folder=folder)
        command = [
            server,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        self._prometheus = Program("prometheus", command, folder=folder).wait_ready("ready to receive")

    def alarms(self) -> list[Alarm]:
        rows = ask(f"http://127.0.0.1:{self._port}/api/v1/alerts")["data"]["alerts"]
        return [
            Alarm(
                name=row["labels"]["alertname"],
                about=" ".join(row["labels"].values()),
                fires=row["state"] == "firing",
                wait_seconds=float(row["labels"]["waits"]),
                key=json.dumps(row["labels"], sort_keys=True),
            )
            for row in rows
        ]

    def lose_agent(self) -> None:
        self._exporter.kill()

    def regain_agent(self, within: Sequence[str]) -> None:
        self._exporter = Program("node_exporter", [*within, *self._exporter_command], folder=self._folder)

    def stop(self) -> None:
        self._exporter.stop()
        self._prometheus.stop()


class Netdata(Watcher):
    """Netdata alone on its machine, with the alarms it is packaged with."""

    name = "Netdata"

    def __init__(self, folder: Path) -> None:
        program = tool("netdata", package="netdata-core")
        self.version = said([program, "-v"])
        self._folder, self._port = folder, free_port()
        folder.mkdir()
        for name in ("config", "cache", "lib", "log"):
            (folder / name).mkdir()
        (folder / "config" / ".opt-out-from-anonymous-statistics").touch()
        config = folder / "config" / "netdata.conf"
        config.write_text(
            f"[global]\n run as user = root\n[db]\n mode = ram\n retention = 3600\n[web]\n bind to = 127.0.0.1:{self._port}\n"
            f"[directories]\n config = {folder}/config\n cache = {folder}/cache\n lib = {folder}/lib\n log = {folder}/log\n"
            "[health]\n script to execute on alarm = /bin/true\n"
        )
        self._command = [program, "-D", "-c", str(config), "-P", str(folder / "netdata.pid")]
        self._program = Program("netdata", self._command, folder=folder)
        wait_for(self._answers, 60.0, lambda: f"Netdata to answer:\n{self._program.log[-2000:]}")

    def _answers(self) -> bool:
        try:
            self.alarms()
        except (OSError, ValueError):
            assert self._program.running, f"Netdata ended:\n{self._program.log[-2000:]}"
            return False
        return True

    def alarms(self) -> list[Alarm]:
        """Raised ones. When it would tell of them (`delay: up`) is not counted in."""
        rows = ask(f"http://127.0.0.1:{self._port}/api/v1/alarms?active")["alarms"]
        return [
            Alarm(
                name=row["name"],
                about=f"{row['chart']} {row['family']}",
                fires=True,
                wait_seconds=0.0,
                key=f"{row['chart']}.{row['name']}",
            )
            for row in rows.values()
        ]

    def lose_agent(self) -> None:
        self._program.kill()

    def regain_agent(self, within: Sequence[str]) -> None:
        self._program = Program("netdata", [*within, *self._command], folder=self._folder)

    def stop(self) -> None:
        self._program.stop()


class Monit(Watcher):
    """monit, told by hand of every filesystem and service."""

    name = "monit"

    def __init__(self, folder: Path, faults: Sequence[Fault]) -> None:
        program = tool("monit", package="monit")
        self.version = said([program, "-V"])
        self._folder, self._port = folder, free_port()
        self._mountpoints: dict[str, Path] = {}
        """By the name of their check."""
        folder.mkdir()
        config = folder / "monitrc"
        lines = [
            "set daemon 120",
            f"set log {folder}/monit.log",
            f"set pidfile {folder}/monit.pid",
            f"set idfile {folder}/monit.id",
            f"set statefile {folder}/monit.state",
            f"set httpd port {self._port} and use address 127.0.0.1 allow 127.0.0.1",
        ]
        for fault in faults:
            if fault.mountpoint.is_mount():
                name = f"{fault.folder.name}-volume"
                self._mountpoints[name] = fault.mountpoint
                lines.append(f'check filesystem "{name}" with path "{fault.mountpoint}"')
                lines += ["  if space usage > 80% then alert", "  if inode usage > 90% then alert"]
            if fault.unit:
                pid = said(["systemctl", "show", "--property=MainPID", "--value", fault.unit])
                command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
                lines.append(f'check process "{fault.unit}" matching "{re.escape(command)}"')
        config.write_text("\n".join(lines) + "\n")
        config.chmod(0o600)
        self._command = [program, "-I", "-c", str(config)]
        self._program = Program("monit", self._command, folder=folder)
        wait_for(self._answers, 60.0, lambda: f"monit to answer:\n{self._program.log}")

    def _answers(self) -> bool:
        try:
            self.alarms()
        except OSError:
            assert self._program.running, f"monit ended:\n{self._program.log}"
            return False
        return True

    def alarms(self) -> list[Alarm]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/_status?format=xml", timeout=10) as reply:
            page = ET.fromstring(reply.read())
        found = []
        for row in page.iter("service"):
            status, name = int(row.findtext("status") or 0), row.findtext("name") or ""
            for bit, word in _MONIT_EVENTS.items():
                if status & bit:
                    about = f"{name} {self._mountpoints.get(name, '')}"
                    found.append(Alarm(name=word, about=about, fires=True, key=f"{name} {word}"))
        return found

    def lose_agent(self) -> None:
        self._program.kill()

    def regain_agent(self, within: Sequence[str]) -> None:
        self._program = Program("monit", [*within, *self._command], folder=self._folder)

    def stop(self) -> None:
        self._program.stop()


_MONIT_EVENTS = {
    0x2: "resource limit",
    0x80: "uid",
    0x200: "does not exist",
    0x400: "invalid type",
    0x800: "data access",
    0x1000: "execution failed",
    0x2000: "filesystem flags changed",
    0x40000: "PID changed",
}
"""monit's event bits (src/event.h), as far as filesystems and processes can raise them."""


def _rule(alert: str, wait: str, severity: str, expression: str) -> dict[str, Any]:
    seconds = int(wait[:-1]) * {"s": 1, "m": 60, "h": 3600}[wait[-1]]
    return {
        "alert": alert,
        "expr": expression,
        "for": wait,
        "labels": {"severity": severity, "waits": str(seconds)},
    }
