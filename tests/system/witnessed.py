"""What tests ask of the witness: the collector's word on a volume, and the records as they lie on its disk."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from holdfast_agent.core.chain import SLOT_BYTES, WholeSlot, decode_record
from tests.rigs.powered_disk import PoweredDisk
from tests.system.machine import Machine
from tests.system.stack import Stack

INTERVAL_SECONDS = 1.0
"""Between two records of a volume: the shortest that the configuration takes."""
ACCUSATIONS = (
    "witness_lost",
    "witness_suspected",
    "witness_forked",
    "witness_corrupt",
    "witness_missing",
    "witness_swapped",
    "witness_foreign",
    "witness_cache_differs",
)
"""Facts of a volume that say something against it."""
RULES = """
rules:
  - alert: RecordsLost
    id: T-01
    resource: volume
    when: witness_lost
    severity: page
    sticky: true
    summary: "{node}: {resource} lost what it had promised"
  - alert: CollectorBehind
    id: T-02
    resource: collector
    when: behind_agents
    severity: page
    summary: "the collector was restored"
"""


def witness_tables(mountpoints: Iterable[Path]) -> list[str]:
    """An agent's configuration: the pace of a test, and no volume but these."""
    return [
        "[witness]",
        f'interval = "{INTERVAL_SECONDS:g}s"',
        f"include = {json.dumps([str(place) for place in mountpoints])}",
        # What nobody asks for here, and what looks at the machine that the tests run on.
        "[probes.services_systemd]",
        "enabled = false",
        "[probes.kernel_log]",
        "enabled = false",
    ]


def rules_folder(folder: Path) -> Path:
    """A pack that makes a loss an alert, which an operator can acknowledge."""
    folder.mkdir(parents=True)
    (folder / "witness.yaml").write_text(RULES, encoding="utf-8")
    return folder


class Witnessed:
    """One machine as the collector knows it."""

    def __init__(self, stack: Stack, machine: Machine) -> None:
        self.stack = stack
        self.machine = machine
        self._fates_told = 0

    def facts(self) -> dict[str, dict[str, Any]]:
        """Disk → the facts of its volume that the witness is about."""
        shown = (self.stack.collector.node(self.machine.node) or {}).get("resources", [])
        volumes = {one["name"]: one["facts"] for one in shown if one["kind"] == "volume"}
        return {name: _of_the_witness(volumes, disk) for name, disk in self.machine.disks.items()}

    def accusations(self) -> dict[str, dict[str, Any]]:
        """Disk → what is said against its volume; empty when nothing is."""
        return {
            disk: {name: facts[name] for name in ACCUSATIONS if facts.get(name)}
            for disk, facts in self.facts().items()
        }

    def promised(self) -> dict[str, int]:
        """Disk → the newest record that the collector holds of it; 0: none."""
        return {disk: int(facts.get("witness_seq") or 0) for disk, facts in self.facts().items()}

    def wait_for_promises(self, count: int = 1) -> dict[str, int]:
        """Until the collector holds so many more records of each disk; what it holds then."""
        before = self.promised()

        def promised() -> dict[str, int] | None:
            now = self.promised()
            return now if all(now[disk] >= before[disk] + count for disk in now) else None

        return self.stack.wait(promised, f"{count} new records of every disk: {before}", 60.0)

    def wait_for_fate(self) -> str:
        """Until the collector has compared every chain after a boot that was not told of yet; what it says it was."""

        def told() -> str | None:
            total, summary = self._fates()
            return summary if total > self._fates_told else None

        summary = self.stack.wait(told, f"the fate of boot {self.machine.boot_id}", 60.0)
        self._fates_told += 1
        return summary

    def _fates(self) -> tuple[int, str]:
        """How many boots were told of, and what of the newest."""
        counts = (self.stack.collector.node(self.machine.node) or {}).get("events", [])
        fates = [count for count in counts if count["type"] == "reboot_fate"]
        return (fates[0]["total"], fates[0]["last"]) if fates else (0, "")

    def acknowledge(self, reason: str) -> None:
        """As an operator: take note of what was lost."""

        def settled() -> bool:
            for alert in self.stack.collector.firing(node=self.machine.node, alertname="RecordsLost"):
                self.stack.collector.post("/api/v1/acks", {"key": alert["key"], "reason": reason})
            return not any("witness_lost" in accused for accused in self.accusations().values())

        self.stack.wait(settled, "the losses to be acknowledged")


def _of_the_witness(volumes: Mapping[str, dict[str, Any]], disk: PoweredDisk) -> dict[str, Any]:
    facts = volumes.get(str(disk.mountpoint), {})
    return {name: value for name, value in facts.items() if name.startswith(("witness_", "durability_"))}


def chain_file(inside: Path) -> Path:
    """The one chain in the files of a disk."""
    (found,) = inside.glob(".holdfast/*/chain")
    return found


def records(disk: PoweredDisk) -> list[tuple[int, bytes, WholeSlot]]:
    """(slot, bytes, content) of all whole records on a disk that is switched off, oldest first."""
    with disk.opened() as inside:
        ring = chain_file(inside).read_bytes()
    found = []
    for slot in range(1, len(ring) // SLOT_BYTES):
        content = ring[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]
        if (whole := decode_record(content)) is not None:
            found.append((slot, content, whole))
    return sorted(found, key=lambda each: each[2].record.seq)
