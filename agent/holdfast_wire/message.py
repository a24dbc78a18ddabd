"""Every message of the wire contract, as frozen Structs.

Up (agent to collector), all on one topic per node so that order per node holds on every broker:

| kind     | class       | what it is                                                                      |
|----------|-------------|---------------------------------------------------------------------------------|
| `birth`  | durable     | an agent started: who it is, what it may see, how the last run ended            |
| `report` | latest wins | the sections that changed, each complete, and the digests of all of them        |
| `event`  | durable     | one thing that happened, with an id                                             |
| `witness` | durable    | one record is on a volume's medium: the volume's own word, to be held against it |
| `chain_report` | durable | what of a volume's records was read back from its medium                       |
| `death`  | –           | the MQTT will (`lost`), or a clean stop (`stopped`) sent before DISCONNECT       |

Down (collector to agent): `ack`, `resend` and `expect`. There are no remote commands.

A durable message is spooled by the agent until the collector has acknowledged it by position *and* digest, after
its effect is committed. The broker's PUBACK is never taken for delivery. A durable message sent again is the same
bytes; the same position with other bytes is a twin (a clone or a rolled-back machine), not a duplicate.

A report is never spooled: it is made afresh from the newest sections whenever it is sent, so a lost one heals itself.
"""

from enum import StrEnum
from typing import Literal

from msgspec import Struct, field

VERSION = 1

Value = bool | int | float | str
"""The value of a fact. An absent fact is unknown; there is no null."""


class SectionStatus(StrEnum):
    """How one run of a probe ended."""

    OK = "ok"
    """The facts are complete."""
    NO_DATA = "no_data"
    """The probe works, and there is nothing of its kind on this machine."""
    UNSUPPORTED = "unsupported"
    """This machine cannot have these facts: no systemd, no such kernel interface."""
    DENIED = "denied"
    """The facts exist, and the agent may not read them."""
    TIMEOUT = "timeout"
    """The probe did not return in time, and may still hang."""
    ERROR = "error"
    """The probe failed in a way it did not foresee."""


class DeathReason(StrEnum):
    """How a session ended."""

    LOST = "lost"
    """The broker lost the agent: crash, power, network. Sent by the broker as the will."""
    STOPPED = "stopped"
    """The agent said goodbye."""


class Position(Struct, frozen=True, array_like=True, order=True):
    """The place of a message in its agent's life: the agent's start counter, then the count within that run."""

    epoch: int
    seq: int


class Resource(Struct, frozen=True, kw_only=True):
    """One thing on a node that has facts."""

    kind: str
    """A `holdfast_wire.fact.ResourceKind` value; kinds from newer agents pass through unread."""
    name: str
    """Unique within node and kind: a mountpoint, a unit name, a device name; the node's own name for `node`."""
    facts: dict[str, Value] = field(default_factory=dict)


class Section(Struct, frozen=True, kw_only=True):
    """All that one probe says, complete in itself: what it no longer lists is no longer there."""

    probe: str
    status: SectionStatus
    observed_at: float
    """The agent's wall clock, Unix seconds UTC. Data, never used for order or age."""
    mono: float
    """The agent's boot-time clock in seconds at the same instant."""
    period_seconds: float
    """How often the probe looks. Facts older than three periods are stale."""
    duration_seconds: float
    detail: str = ""
    """Why the status is what it is, and what would change it. Empty when `ok`."""
    missing: dict[str, str] = field(default_factory=dict)
    """Facts that could not be had although the probe works: fact or subject → reason and cure."""
    resources: list[Resource] = field(default_factory=list)


class Mark(Struct, frozen=True, kw_only=True):
    """What a report says of a section it need not repeat."""

    digest: str
    """`codec.section_digest` of the section."""
    mono: float
    """When the probe last looked, on the agent's boot-time clock."""
    duration_seconds: float


class SpoolState(Struct, frozen=True, kw_only=True):
    """What the agent still has to deliver."""

    messages: int
    bytes: int
    dropped_total: int
    """Durable messages lost for ever because the spool was full, since the agent was installed."""
    in_memory: bool
    """The spool's own disk fails: messages survive a crash of the broker or collector, not one of the agent."""
    detail: str = ""


class Capability(Struct, frozen=True, kw_only=True):
    """Whether a probe can work here, and what is not known without it."""

    name: str
    available: bool
    reason: str = ""
    """What is missing, and how to grant it."""
    cost: str = ""
    """What nobody will know without it."""


class Header(Struct, frozen=True, kw_only=True):
    """The fields of every message from an agent."""

    v: Literal[1] = 1
    node: str
    install_id: str
    """Random, once per installation of the agent."""
    boot_id: str
    """The kernel's boot id, or the agent's own per boot where the system has none."""
    epoch: int
    """The agent's start counter, kept on disk."""
    seq: int
    """Counts the messages of one epoch from 1, in the order they came into being."""
    sent_at: float
    """The agent's wall clock when the message came into being, Unix seconds UTC."""
    mono: float
    """The agent's boot-time clock in seconds at the same instant. Runs on during suspend, starts anew at boot."""

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.seq)


class Machine(Struct, frozen=True, kw_only=True):
    """What a machine is known by beyond its agent. Empty where it does not say."""

    machine_id: str = ""
    """Of the operating system's installation; clones and restored copies share it (machine-id(5))."""
    instance_id: str = ""
    """Of the virtual machine, as the hypervisor or the cloud gave it; a machine made from a copy has another."""
    host: str = ""
    """Digest of the name of the host it runs on; another one after it moved, with or without a boot."""


class Birth(Header, frozen=True, kw_only=True, tag="birth", tag_field="kind"):
    """An agent started."""

    agent_version: str
    os: str
    """`linux` or `windows`."""
    os_name: str
    """As the system calls itself, e.g. `Debian GNU/Linux 12 (bookworm)`."""
    kernel: str
    interval_seconds: float
    """How often a report comes, changed or not."""
    previous_stop: Literal["clean", "dirty", "first"]
    """How the agent's previous run ended: it said so on disk, it did not, or there was none."""
    capabilities: list[Capability] = field(default_factory=list)
    spool: SpoolState
    acknowledged: Position | None = None
    """The newest position the agent holds the collector's acknowledgement of: witness against a restored collector."""
    machine: Machine = Machine()
    previous_boot: Literal["clean", "dirty", "unknown"] = "unknown"
    """How the machine's previous run ended, by what it left behind."""
    previous_boot_evidence: str = ""


class Report(Header, frozen=True, kw_only=True, tag="report", tag_field="kind"):
    """The node as it is now."""

    connection: int
    """Counts the agent's connections to a broker within the epoch. A will of an earlier one is outdated."""
    interval_seconds: float
    floor: Position
    """Every durable message before this one is acknowledged or dropped; none of them will come again."""
    spool: SpoolState
    marks: dict[str, Mark] = field(default_factory=dict)
    """All probes of the agent, by name."""
    sections: list[Section] = field(default_factory=list)
    """Those sections that the collector is not known to hold."""


class Event(Header, frozen=True, kw_only=True, tag="event", tag_field="kind"):
    """One thing that happened once."""

    type: str
    """An `holdfast_wire.fact.EVENT_TYPES` name."""
    resource_kind: str
    resource: str
    at: float
    """When it happened, by the agent's wall clock, Unix seconds UTC."""
    summary: str
    """One line for a person: the kernel's own line, the unit's result."""
    fields: dict[str, Value] = field(default_factory=dict)


class ChainHead(Struct, frozen=True, array_like=True):
    """One record of a chain by its place and its content."""

    seq: int
    """Counts the records of a chain from 1; numbers of records that failed are never used again."""
    hash: str
    """SHA-256 of the record in hexadecimal, or its first 16 digits where many are listed."""


class Witness(Header, frozen=True, kw_only=True, tag="witness", tag_field="kind"):
    """A volume said that a record is on its medium: fdatasync returned without error. Sent only then."""

    volume: str
    """The volume's resource name: its mountpoint."""
    chain_id: str
    """32 hexadecimal digits, random, once per chain."""
    head: ChainHead
    previous: ChainHead
    """The newest confirmed record before it; seq 0 and an empty hash for the first of a chain."""
    written_at: float
    """Wall clock of the record, Unix seconds UTC."""
    fsync_seconds: float
    clean_stop: bool = False
    """The last record of an orderly stop of the agent."""
    metadata_seq: int = 0
    """The newest count that was written to a new file, renamed over the old one and fsynced with its folder."""
    acknowledged_seq: int = 0
    """The newest record that the collector is known to hold, by its own word: witness against the collector."""


class ReadCause(StrEnum):
    """Why a chain was read back."""

    BEGUN = "begun"
    """The chain was begun just now, and this introduces it: it says nothing of one that was there before."""
    BOOT = "boot"
    AGENT_START = "agent_start"
    MOUNT = "mount"
    """The volume was mounted, mounted anew, or is missed."""
    CHANGED = "changed"
    """At the next record the chain's file was gone, another one, or without its newest record, on the same mount."""
    FORK = "fork"
    """The hypervisor told of a copy of this machine's memory."""
    RESUME = "resume"
    DAILY = "daily"
    AGAIN = "again"
    """The second, independent read that a loss needs."""


class VolumeIdentity(Struct, frozen=True, kw_only=True):
    """What a volume is known by. Empty where the machine does not say."""

    volume: str
    """Its resource name: its mountpoint."""
    fstype: str = ""
    filesystem_id: str = ""
    """UUID: a new one after mkfs; copies of a disk share it."""
    device: str = ""
    """The kernel's name, e.g. `sda1`."""
    device_id: str = ""
    """The device's own: serial or WWID, with the partition's number."""
    mount_id: int = 0
    mount_root: str = "/"


class ChainReport(Header, frozen=True, kw_only=True, tag="chain_report", tag_field="kind"):
    """What was read back of a chain, from the medium. The collector compares before it takes a newer record."""

    identity: VolumeIdentity
    machine: Machine = Machine()
    cause: ReadCause
    mounted: bool = True
    """False: the volume had a chain, and its mountpoint is now a folder of the volume above it."""
    read_mode: Literal["direct", "buffered"] = "direct"
    """`buffered`: past the cache by advice only, which proves less."""
    read_error: str = ""
    """Why nothing could be read; then the rest is empty and says nothing."""
    chain_id: str = ""
    """Empty: there is no chain file here."""
    owner: str = ""
    """The install_id that the chain was begun by."""
    began_on: str = ""
    """The volume it was begun on, by its mountpoint then."""
    head: ChainHead | None = None
    """The newest record that is whole; None: the chain has none yet."""
    hashes: list[ChainHead] = field(default_factory=list)
    """Whole records, oldest first, by 16 digits: the newest `RECENT_RECORDS` and every one whose seq
    `SPARSE_RECORDS` divides."""
    oldest_seq: int = 0
    """The oldest record the ring still has room for; what is older has been overwritten."""
    broken: list[int] = field(default_factory=list)
    """Records that should be there and are not whole, oldest first; those whose write failed are not among them."""
    torn_seq: int = 0
    """The record right after the head, if its slot was touched and is not whole; 0: none."""
    acknowledged_seq: int = 0
    """The newest record that a collector is recorded to have acknowledged: witness against the collector."""
    clean_stop: bool = False
    """The newest record is that of an orderly stop."""
    written_by_boot: str = ""
    """boot_id in the newest record."""
    written_at: float = 0.0
    """Wall clock in the newest record, Unix seconds UTC."""
    metadata_seq: int = 0
    """What the renamed file holds; 0: it is not there."""
    cache_differs: bool = False
    """Read through the cache the chain is whole, on the medium it is not: the cache hides a write that failed."""
    previous_boot: Literal["clean", "dirty", "unknown"] = "unknown"


RECENT_RECORDS = 64
SPARSE_RECORDS = 64
"""Both sides keep the same ones, so two lines of one chain always have records in common to compare."""


class Death(Header, frozen=True, kw_only=True, tag="death", tag_field="kind"):
    """A session's end. As a will it is composed when the session begins and carries that moment's `seq` and times."""

    reason: DeathReason
    connection: int


UpMessage = Birth | Report | Event | Witness | ChainReport | Death
DurableMessage = Birth | Event | Witness | ChainReport


class Acknowledgement(Struct, frozen=True, array_like=True):
    """One durable message whose effect is committed. The digest tells twins apart."""

    epoch: int
    seq: int
    digest: str
    """`codec.content_digest` of the message's bytes."""


class Ack(Struct, frozen=True, kw_only=True, tag="ack", tag_field="kind"):
    """The collector has these on its own disk; the agent may forget them."""

    v: Literal[1] = 1
    install_id: str
    messages: list[Acknowledgement]


class Resend(Struct, frozen=True, kw_only=True, tag="resend", tag_field="kind"):
    """The collector does not hold these sections; the next report shall carry them, at once."""

    v: Literal[1] = 1
    install_id: str
    probes: list[str]


class Expected(Struct, frozen=True, kw_only=True):
    """What the collector holds of one chain."""

    volume: str
    chain_id: str
    head: ChainHead | None
    """The newest record it was told of and has committed; None: it knows none."""
    frozen: bool = False
    """The chain is evidence now, of two machines that write it or of another machine's: begin a new one."""
    doubted: bool = False
    """A read fell short and stands alone: read again."""


class Expect(Struct, frozen=True, kw_only=True, tag="expect", tag_field="kind"):
    """The answer to chain reports, after they were compared. An agent whose chain falls short reads it again."""

    v: Literal[1] = 1
    install_id: str
    chains: list[Expected]


DownMessage = Ack | Resend | Expect
