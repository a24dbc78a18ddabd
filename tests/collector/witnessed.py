"""Machines with a volume that testifies, for tests of the collector's judgement of chains: literals and virtual time."""

import hashlib
from typing import Any

from msgspec import structs

from holdfast_collector.core.chain import ChainRecord
from holdfast_collector.core.effect import Effect
from holdfast_wire import ChainHead, ChainReport, Expect, Machine, ReadCause, VolumeIdentity, Witness
from holdfast_wire.message import RECENT_RECORDS, SPARSE_RECORDS, Birth, Value
from tests.collector.fleet import WARM, Agent, Desk, commit_of, published

CHAIN = "c1" * 16
OTHER = "c2" * 16
RING = 2048

RULES = """
rules:
  - {alert: WitnessLost, id: W-01, resource: volume, when: witness_lost, for: 0s, severity: page, sticky: true,
     summary: "{node}: {resource} lost {witness_loss_records} records"}
  - {alert: WitnessForked, id: W-02, resource: volume, when: witness_forked, for: 0s, severity: page, sticky: true,
     summary: "{node}: {resource} forked"}
  - {alert: WitnessMissing, id: W-03, resource: volume, when: witness_missing, for: 0s, severity: page,
     summary: "{node}: {resource} {witness_missing_reason}"}
  - {alert: IdentityChanged, id: W-04, resource: node, when: identity_changed, for: 0s, severity: ticket,
     summary: "{node} is another machine"}
  - {alert: CollectorBehind, id: W-05, resource: collector, when: behind_agents, for: 0s, severity: page,
     summary: "the collector was restored"}
  - {alert: WitnessSwapped, id: W-06, resource: volume, when: witness_swapped, for: 0s, severity: page,
     summary: "{node}: {resource} swapped"}
"""


def digest(chain_id: str, seq: int, line: str) -> str:
    """A record's hash: lines that differ in their name differ in every record from where they part."""
    return hashlib.sha256(f"{chain_id}/{seq}/{line}".encode()).hexdigest()


class Disk:
    """A volume's medium: records by number, with the wall clock of each."""

    def __init__(
        self, volume: str = "/srv", chain_id: str = CHAIN, *, filesystem: str = "fs-1", device: str = "disk-1"
    ):
        self.volume, self.chain_id, self.filesystem, self.device = volume, chain_id, filesystem, device
        self.records: dict[int, ChainHead] = {}
        self.written: dict[int, float] = {}
        self.clean: set[int] = set()
        self.line = "a"
        self.metadata_seq = 0

    @property
    def head(self) -> ChainHead | None:
        return self.records[max(self.records)] if self.records else None

    def copy(self, line: str = "") -> "Disk":
        """A snapshot; what is written to it from now on belongs to another line."""
        twin = Disk(self.volume, self.chain_id, filesystem=self.filesystem, device=self.device)
        twin.records, twin.written, twin.clean = dict(self.records), dict(self.written), set(self.clean)
        twin.line, twin.metadata_seq = line or self.line, self.metadata_seq
        return twin

    def cut(self, newest: int) -> None:
        """Lose every record after `newest`."""
        self.records = {seq: head for seq, head in self.records.items() if seq <= newest}

    def append(self, at: float, *, seq: int = 0) -> tuple[ChainHead, ChainHead]:
        """One more record; it and the one before it."""
        previous = self.head or ChainHead(0, "")
        seq = seq or previous.seq + 1
        head = self.records[seq] = ChainHead(seq, digest(self.chain_id, seq, self.line))
        self.written[seq] = at
        return head, previous


class Witnessed(Agent):
    """An agent on a machine with one disk."""

    def __init__(self, disk: Disk | None = None, *, began_at: float = WARM - 1000.0, **named: Any) -> None:
        super().__init__(**named)
        self.disk = disk or Disk()
        self.began_at = began_at
        """When the machine booted, collector's clock."""
        self.machine = Machine(machine_id="m-1", instance_id="i-1")
        self.owner = self.install

    def born(self, at: float, previous: Any = "unknown", evidence: str = "") -> Birth:
        birth = structs.replace(self.birth(), mono=at - self.began_at, previous_boot=previous)
        return structs.replace(birth, machine=self.machine, previous_boot_evidence=evidence)

    def alive(self, at: float) -> Any:
        return self.report(mono=at - self.began_at)

    def witness(self, at: float, *, seq: int = 0, **fields: Any) -> Witness:
        """Append a record and say so."""
        head, previous = self.disk.append(at, seq=seq)
        message = Witness(
            **self.header(at - self.began_at),
            volume=self.disk.volume,
            chain_id=self.disk.chain_id,
            head=head,
            previous=previous,
            written_at=at,
            fsync_seconds=0.001,
            metadata_seq=self.disk.metadata_seq,
        )
        return structs.replace(message, **fields)

    def read(self, at: float, cause: ReadCause = ReadCause.BOOT, **fields: Any) -> ChainReport:
        """What is on the disk."""
        disk, head = self.disk, self.disk.head
        newest = head.seq if head else 0
        oldest = max(1, newest - RING + 1)
        numbers = sorted(seq for seq in disk.records if seq >= oldest)
        named = [seq for seq in numbers if seq in numbers[-RECENT_RECORDS:] or seq % SPARSE_RECORDS == 0]
        message = ChainReport(
            **self.header(at - self.began_at),
            identity=VolumeIdentity(
                volume=disk.volume,
                fstype="ext4",
                filesystem_id=disk.filesystem,
                device="sdb1",
                device_id=disk.device,
                mount_id=7,
            ),
            machine=self.machine,
            cause=cause,
            chain_id=disk.chain_id,
            owner=self.owner,
            began_on=disk.volume,
            head=head,
            hashes=[ChainHead(seq, disk.records[seq].hash[:16]) for seq in named],
            oldest_seq=oldest,
            clean_stop=newest in disk.clean,
            written_at=disk.written.get(newest, 0.0),
            metadata_seq=disk.metadata_seq,
        )
        return structs.replace(message, **fields)

    def reboot(self, at: float, boot: str = "boot-2") -> None:
        """The machine boots again."""
        self.boot, self.epoch, self.seq, self.began_at = boot, self.epoch + 1, 0, at


def desk(**fields: Any) -> Desk:
    return Desk(rules=RULES, **fields)


def lived(upon: Desk, agent: Witnessed, records: int = 100, at: float = WARM) -> float:
    """Let an agent report and write that many records, a minute apart; when the next one would be."""
    upon.feed(agent.born(at), at, agent.node)
    upon.feed(agent.read(at, ReadCause.AGENT_START), at, agent.node)
    for _ in range(records):
        upon.feed(agent.alive(at), at, agent.node)
        upon.feed(agent.witness(at), at, agent.node)
        at += 60.0
    return at


def chain(upon: Desk, chain_id: str = CHAIN, node: str = "n1") -> ChainRecord:
    return upon.collector.nodes[node].chains[chain_id]


def facts(upon: Desk, volume: str = "/srv", node: str = "n1") -> dict[str, Value]:
    return upon.collector.nodes[node].resources.get(("volume", volume), {})


def expected(effects: list[Effect]) -> Any:
    """The one chain of the one Expect among the effects."""
    (answer,) = [one.message for one in published(effects) if isinstance(one.message, Expect)]
    assert isinstance(answer, Expect)
    return answer.chains[0]


def events(effects: list[Effect]) -> list[tuple[str, str]]:
    return [(row.type, row.resource) for row in commit_of(effects).events]
