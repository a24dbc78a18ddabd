"""A node that exists in arithmetic only: what its agent would say, without an agent and without a machine.

It obeys the wire contract as an agent does: a birth and events are kept until the collector acknowledges position and
digest, a report carries the sections whose digest was not yet published on this connection, a will is composed per
connection. Values drift the way real ones do: free space wanders, on a few nodes it shrinks, services restart.

No clock and no socket in here: instants come as `Stamp`, entropy from the `random.Random` it was given, so a seed
gives the same fleet again.
"""

import random
from typing import TypedDict

from msgspec import Struct, structs

from holdfast_wire import (
    Ack,
    Birth,
    Capability,
    Death,
    DeathReason,
    Event,
    Mark,
    Position,
    Report,
    Resource,
    Section,
    SectionStatus,
    SpoolState,
    content_digest,
    encode,
    section_digest,
)
from holdfast_wire.message import Value

GIB = 1024**3
HOST_REPORTS = 6
"""Every so many reports the host section has news; the volumes section always has."""
FACTS_PER_VOLUME = 17
_SHRINKING = 0.02
"""Of the nodes: their root volume fills up within about a day."""

_VOLUMES = (
    ("/", "ext4", "sda1", 40),
    ("/var/lib/postgresql", "xfs", "sdb1", 200),
    ("/srv", "xfs", "sdc1", 500),
    ("/home", "ext4", "sdd1", 100),
    ("/var/log", "ext4", "sde1", 20),
    ("/var/lib/docker", "btrfs", "sdf1", 100),
)
_SERVICES = (
    ("ssh", "OpenBSD Secure Shell server"),
    ("postgresql@15-main", "PostgreSQL Cluster 15-main"),
    ("nginx", "A high performance web server and a reverse proxy server"),
    ("cron", "Regular background program processing daemon"),
    ("systemd-journald", "Journal Service"),
    ("systemd-timesyncd", "Network Time Synchronization"),
    ("redis-server", "Advanced key-value store"),
    ("dbus", "D-Bus System Message Bus"),
    ("rsyslog", "System Logging Service"),
    ("unattended-upgrades", "Unattended Upgrades Shutdown"),
)


class Stamp(Struct, frozen=True):
    """One instant on both clocks, in seconds: Unix time, and since the simulation began."""

    at: float
    mono: float


class Shape(Struct, frozen=True, kw_only=True):
    """What all nodes of a fleet have in common."""

    interval_seconds: float
    volumes: int = 3
    services: int = 10
    events_per_hour: float = 1.0
    epoch: int = 1
    """Must grow from run to run, or a collector that remembers the names takes the new run for a rolled-back one."""


class Durable(Struct):
    """A message that stays until the collector has acknowledged it."""

    payload: bytes
    digest: str
    sent_mono: float | None = None
    """When it last left on the current connection; None when it has not."""


class _Volume(Struct):
    mountpoint: str
    size_bytes: int
    free_bytes: float
    shrink_ratio_per_second: float
    facts: dict[str, Value]
    """What does not change."""


class _Header(TypedDict):
    node: str
    install_id: str
    boot_id: str
    epoch: int
    seq: int
    sent_at: float
    mono: float


class SimulatedNode:
    """One node. Its methods are called in the order of time."""

    def __init__(self, name: str, shape: Shape, entropy: random.Random, born: Stamp) -> None:
        self.name = name
        self.waiting: dict[Position, Durable] = {}
        """Durable messages without the collector's acknowledgement, oldest first."""
        self.durable_total = 0
        """Durable messages so far, acknowledged ones included."""
        self._shape = shape
        self._entropy = entropy
        self._uptime = entropy.uniform(3600.0, 90 * 86_400.0)
        self._booted_at = born.at - self._uptime
        self._boot_id = f"{entropy.getrandbits(128):032x}"
        self._install_id = f"sim-{random.Random(name).getrandbits(64):016x}"
        self._seq = 0
        self._connection = 0
        self._reports = 0
        self._moved_mono = born.mono
        self._published: dict[str, str] = {}
        """Probe → digest last published on this connection."""
        self._acknowledged: Position | None = None
        self._volumes = _make_volumes(shape.volumes, entropy)
        self._restarts = [0] * shape.services
        self._host = self._host_section(born)
        self._services = self._services_section(born)

    def birth(self, stamp: Stamp) -> None:
        """The agent starts: its first durable message."""
        self._keep(
            Birth(
                **self._header(stamp),
                agent_version="simulated",
                os="linux",
                os_name="Debian GNU/Linux 12 (bookworm)",
                kernel="6.1.0-28-amd64",
                interval_seconds=self._shape.interval_seconds,
                previous_stop="clean",
                capabilities=[Capability(name=probe, available=True) for probe in self._probes()],
                spool=self._spool(),
            )
        )

    def connecting(self, stamp: Stamp) -> bytes:
        """A new connection is tried, with this will. What was sent on the one before counts as unsent."""
        self._connection += 1
        self._published = {}
        for durable in self.waiting.values():
            durable.sent_mono = None
        return encode(
            Death(**self._header(stamp), reason=DeathReason.LOST, connection=self._connection),
        )

    def goodbye(self, stamp: Stamp) -> bytes:
        """The clean stop's message."""
        return encode(
            Death(**self._header(stamp), reason=DeathReason.STOPPED, connection=self._connection),
        )

    def report(self, stamp: Stamp) -> bytes:
        """The node as it is now. Things may happen on the way; see `waiting`."""
        elapsed = stamp.mono - self._moved_mono
        self._moved_mono = stamp.mono
        self._move(elapsed)
        self._happen(stamp, elapsed)
        if self._reports % HOST_REPORTS == 0:
            self._host = self._host_section(stamp)
        self._reports += 1
        sections = [
            # Looked at again, found as before: the digest is of what is said, not of when.
            structs.replace(section, observed_at=stamp.at, mono=self._uptime + stamp.mono)
            for section in (self._host, self._volumes_section(stamp), self._services)
        ]
        digests = {section.probe: section_digest(section) for section in sections}
        report = Report(
            **self._header(stamp),
            connection=self._connection,
            interval_seconds=self._shape.interval_seconds,
            floor=next(iter(self.waiting), Position(self._shape.epoch, self._seq)),
            spool=self._spool(),
            marks={
                section.probe: Mark(
                    digest=digests[section.probe],
                    mono=section.mono,
                    duration_seconds=section.duration_seconds,
                )
                for section in sections
            },
            sections=[
                section
                for section in sections
                if self._published.get(section.probe) != digests[section.probe]
            ],
        )
        self._published = digests
        return encode(report)

    def due(self, stamp: Stamp, patience_seconds: float) -> list[bytes]:
        """Durable messages to send now: new ones, and those that got no answer in `patience_seconds`."""
        payloads = []
        for durable in self.waiting.values():
            if durable.sent_mono is None or stamp.mono - durable.sent_mono > patience_seconds:
                durable.sent_mono = stamp.mono
                payloads.append(durable.payload)
        return payloads

    def acked(self, ack: Ack) -> int:
        """How many messages the acknowledgement frees: those of its position and digest."""
        freed = 0
        for held in ack.messages:
            position = Position(held.epoch, held.seq)
            durable = self.waiting.get(position)
            if ack.install_id == self._install_id and durable and durable.digest == held.digest:
                del self.waiting[position]
                self._acknowledged = max(position, self._acknowledged or position)
                freed += 1
        return freed

    def resend(self, probes: list[str]) -> None:
        """The collector lacks these sections: the next report carries them."""
        for probe in probes:
            self._published.pop(probe, None)

    def _probes(self) -> list[str]:
        return [self._host.probe, "volumes", self._services.probe]

    def _header(self, stamp: Stamp) -> _Header:
        self._seq += 1
        return {
            "node": self.name,
            "install_id": self._install_id,
            "boot_id": self._boot_id,
            "epoch": self._shape.epoch,
            "seq": self._seq,
            "sent_at": stamp.at,
            "mono": self._uptime + stamp.mono,
        }

    def _keep(self, message: Birth | Event) -> None:
        payload = encode(message)
        self.durable_total += 1
        self.waiting[message.position] = Durable(payload, content_digest(payload))

    def _spool(self) -> SpoolState:
        return SpoolState(
            messages=len(self.waiting),
            bytes=sum(len(durable.payload) for durable in self.waiting.values()),
            dropped_total=0,
            # It has no disk, but to say so would raise an alert on every node of the fleet.
            in_memory=False,
        )

    def _move(self, elapsed: float) -> None:
        for volume in self._volumes:
            wander = self._entropy.gauss(0.0, 1e-5) * volume.size_bytes * max(elapsed, 1.0) ** 0.5
            shrink = volume.shrink_ratio_per_second * elapsed * volume.size_bytes
            volume.free_bytes = min(max(volume.free_bytes + wander - shrink, 0.0), 0.95 * volume.size_bytes)

    def _happen(self, stamp: Stamp, elapsed: float) -> None:
        """At the given rate one of the services falls over and is started again."""
        if self._restarts and self._entropy.random() < elapsed * self._shape.events_per_hour / 3600.0:
            index = self._entropy.randrange(len(self._restarts))
            self._restarts[index] += 1
            self._services = self._services_section(stamp)
            unit = self._services.resources[index].name
            self._keep(
                Event(
                    **self._header(stamp),
                    type="unit_restarted",
                    resource_kind="service",
                    resource=unit,
                    at=stamp.at,
                    summary=f"{unit} was started again after exit-code 1 (simulated)",
                    fields={"result": "exit-code", "exit_status": 1},
                )
            )

    def _section(self, probe: str, stamp: Stamp, resources: list[Resource]) -> Section:
        return Section(
            probe=probe,
            status=SectionStatus.OK,
            observed_at=stamp.at,
            mono=self._uptime + stamp.mono,
            period_seconds=self._shape.interval_seconds,
            duration_seconds=0.002,
            resources=resources,
        )

    def _host_section(self, stamp: Stamp) -> Section:
        memory = 16 * GIB
        facts: dict[str, Value] = {
            "boot_timestamp_seconds": self._booted_at,
            "uptime_seconds": self._uptime + stamp.mono,
            "boot_dirty": False,
            "boot_dirty_evidence": "the agent's own note says stopped",
            "boot_count": 3,
            "boot_id": self._boot_id,
            "clock_synchronized": True,
            "clock_error_seconds": round(self._entropy.uniform(0.001, 0.02), 6),
            "clock_steps_total": 0,
            "suspended_seconds": 0.0,
            "memory_bytes": memory,
            "memory_available_bytes": int(memory * self._entropy.uniform(0.4, 0.6)),
            "dirty_bytes": int(self._entropy.expovariate(1 / 4e6)),
            "os_name": "Debian GNU/Linux 12 (bookworm)",
            "kernel": "6.1.0-28-amd64",
            "architecture": "x86_64",
            "machine_id": self._install_id.removeprefix("sim-") * 2,
            "vendor": "QEMU",
            "product": "Standard PC (simulated)",
        }
        return self._section("host", stamp, [Resource(kind="node", name=self.name, facts=facts)])

    def _volumes_section(self, stamp: Stamp) -> Section:
        resources = []
        for volume in self._volumes:
            free = int(volume.free_bytes)
            facts = volume.facts | {"free_bytes": free, "free_ratio": round(free / volume.size_bytes, 4)}
            resources.append(Resource(kind="volume", name=volume.mountpoint, facts=facts))
        return self._section("volumes", stamp, resources)

    def _services_section(self, stamp: Stamp) -> Section:
        resources = []
        for index, restarts in enumerate(self._restarts):
            stem, description = _SERVICES[index % len(_SERVICES)]
            copy = index // len(_SERVICES)
            facts: dict[str, Value] = {
                "description": description,
                "up": True,
                "failed": False,
                "active_state": "active",
                "sub_state": "running",
                "result": "success",
                "exit_status": 0,
                "enabled": True,
                "main_pid": 400 + 7 * index + restarts,
                "restarts_total": restarts,
                "start_timestamp_seconds": stamp.at if restarts else self._booted_at + 12.0,
            }
            unit = f"{stem}-{copy}.service" if copy else f"{stem}.service"
            resources.append(Resource(kind="service", name=unit, facts=facts))
        return self._section("services", stamp, resources)


def shape_for(facts: int, interval_seconds: float, events_per_hour: float, epoch: int) -> Shape:
    """Nodes whose ordinary report carries about this many facts: those of its volumes, which always have news."""
    return Shape(
        interval_seconds=interval_seconds,
        volumes=max(1, round(facts / FACTS_PER_VOLUME)),
        events_per_hour=events_per_hour,
        epoch=epoch,
    )


def _make_volumes(count: int, entropy: random.Random) -> list[_Volume]:
    shrinking = entropy.random() < _SHRINKING
    made = []
    for index in range(count):
        mountpoint, fstype, device, gibibytes = _VOLUMES[index % len(_VOLUMES)]
        copy = index // len(_VOLUMES)
        if copy:
            mountpoint, device = f"/mnt/data-{index}", f"nvme{copy}n{index}p1"
        size = gibibytes * GIB
        inodes = size // 16_384
        made.append(
            _Volume(
                mountpoint=mountpoint,
                size_bytes=size,
                free_bytes=size * entropy.uniform(0.3, 0.8),
                shrink_ratio_per_second=1.0 / 86_400.0 if shrinking and index == 0 else 0.0,
                facts={
                    "mountpoint": mountpoint,
                    "source": f"/dev/{device}",
                    "fstype": fstype,
                    "device": device,
                    "options": "rw,relatime",
                    "size_bytes": size,
                    "inodes": inodes,
                    "inodes_free": inodes * 9 // 10,
                    "inodes_free_ratio": 0.9,
                    "read_only": False,
                    "dead": False,
                    "writable": True,
                    "expected_writable": True,
                    "reachable": True,
                    "volatile": False,
                },
            )
        )
    return made
