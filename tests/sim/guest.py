"""A machine whose volumes are witnessed: the agent's real session, delivery, writer and reading, over simulated media.

What the agent's threads and files do in the shell is done here step by step, and at each step it may die. Its state
(start counter, spool, known chains) lies on the root volume and has that volume's fate.
"""

from collections.abc import Callable
from copy import copy, deepcopy
from typing import Literal

from msgspec import Struct, structs

from holdfast_agent.core.chain import (
    SLOT_BYTES,
    SLOTS_MIN,
    ZEROS,
    ChainHeader,
    decode_record,
    encode_header,
    instance_digest,
)
from holdfast_agent.core.chain_reading import ChainFound, ChainReading
from holdfast_agent.core.chain_writer import ChainWriter, Moment
from holdfast_agent.core.delivery import Spooled
from holdfast_agent.core.session import Identity, Profile, Session, SpoolFacts, Stamp
from holdfast_agent.core.testimony import Confirmed, ReadBack
from holdfast_wire import (
    Ack,
    Expect,
    Machine,
    Position,
    ReadCause,
    Refusal,
    Resend,
    Resource,
    Section,
    SectionStatus,
    SpoolState,
    VolumeIdentity,
    decode_down,
)
from tests.sim.medium import Medium

INTERVAL = 10.0
APPEND_SECONDS = 20.0
ANSWER_AWAITED_SECONDS = 10.0
AGAIN_SECONDS = 30.0
METADATA_SECONDS = 120.0
SLOTS = SLOTS_MIN
ROOT = "/"

Stop = Literal["clean", "dirty", "unknown"]


class AgentDied(Exception):
    """The agent's process ends here and now."""


class Told(Struct, frozen=True):
    """A record that was confirmed, or found by a read, and said: what a volume promised."""

    volume: str
    chain_id: str
    seq: int
    hash: bytes
    acknowledged_seq: int
    """The newest record of which it says that the collector has it."""
    epoch: int
    """Of the agent that wrote it."""
    digest: str
    """Of its witness message."""


class AgentState(Struct, frozen=True, kw_only=True):
    """The agent's folder, as one value: each change is a new one, durable as a whole."""

    epoch: int = 0
    spool: dict[Position, Spooled] = {}
    acknowledged: Position | None = None
    chains: dict[str, str] = {}
    """Volume → chain_id."""
    stopped_boot: str = ""
    """The boot that was shut down in order."""
    boot: str = ""


class Keeper:
    """One volume's chain as the agent keeps it, in memory only."""

    def __init__(self, volume: str, cause: ReadCause, known: str, now: float) -> None:
        self.volume = volume
        self.writer: ChainWriter | None = None
        self.known = known
        self.wanted = [cause]
        self.append_at = now
        self.again_at: float | None = None
        self.metadata_at = now
        self.metadata_seq = 0
        self.absence_told = False
        self.awaiting = False
        """A report was said, and the collector has not answered."""


class Guest:
    """One machine. Copied whole it is a clone with memory; its media copied, one without."""

    def __init__(self, name: str, install_id: str, media: dict[str, Medium], machine: Machine) -> None:
        self.name = name
        self.install_id = install_id
        self.media = media
        self.machine = machine
        self.told: list[Told] = []
        """By the world's truth: it outlives everything."""
        self.births: list[tuple[str, str]] = []
        """(boot_id, digest) of each birth; by the world's truth, too."""
        self.says_stop = True
        """Whether it can say how its previous run ended."""
        self.temporary: set[str] = set()
        self.boot = ""
        self.booted_at = 0.0
        self.mounts = 0
        self.previous_boot: Stop = "unknown"
        self.running = False
        self.connected = False
        self.reachable_at = 0.0
        self.will = b""
        """Of its newest connection."""
        self.die: Callable[[], None] = lambda: None
        """Called between any two steps; ends the agent by raising."""
        self.fsync_fails: Callable[[], bool] = lambda: False
        self.misreads: Callable[[], bool] = lambda: False
        """Whether a read sees an older state, for once, as behind a path that is being switched."""
        self.ids: Callable[[], str] = lambda: ""
        """Random hexadecimal digits for a new chain."""

    def twin(self) -> "Guest":
        """A copy with its memory and its media, as a hypervisor's snapshot of a running machine is."""
        twin = copy(self)
        twin.media = {volume: medium.with_caches() for volume, medium in self.media.items()}
        twin.temporary = set(self.temporary)
        if self.running:
            twin.session, twin.keepers = deepcopy(self.session), deepcopy(self.keepers)
            twin.awaited = dict(self.awaited)
        return twin

    # ---- the machine ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> AgentState:
        found = self.media[ROOT].read("state")
        return found if isinstance(found, AgentState) else AgentState()

    def _save(self, **changes: object) -> None:
        self.media[ROOT].write("state", structs.replace(self.state, **changes))
        self.media[ROOT].flush()

    def boot_up(self, boot: str, now: float) -> None:
        """The kernel starts; how the run before ended can be told from what is on the root volume."""
        ended = self.state.stopped_boot == self.state.boot
        first = not self.state.boot
        self.previous_boot = "unknown" if first or not self.says_stop else "clean" if ended else "dirty"
        self.boot, self.booted_at = boot, now
        self.mounts += 1
        self.running = self.connected = False
        self._save(boot=boot, stopped_boot=self.state.stopped_boot)

    def shut_down(self, now: float) -> bytes | None:
        """In order: each volume's last record, a goodbye where somebody hears it, and the mark of it."""
        try:
            return self.stop_agent(now)
        finally:
            self._save(stopped_boot=self.boot)  # whether or not its agent lived to the end

    # ---- the agent's life ----------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Start the agent on the machine as it is."""
        self._save(epoch=self.state.epoch + 1)
        identity = Identity(
            node=self.name, install_id=self.install_id, boot_id=self.boot, epoch=self.state.epoch
        )
        self.session = Session(identity, INTERVAL)
        self.session.expect({"volumes"})
        self.keepers = {
            volume: Keeper(volume, ReadCause.AGENT_START, self.state.chains.get(volume, ""), now)
            for volume in self.media
        }
        self.awaited: dict[Position, tuple[str, str, str, int]] = {}
        self.running, self.connected = True, False
        self.die()
        birth = self.session.birth(
            self._stamp(now),
            Profile(
                agent_version="0",
                os="linux",
                os_name="sim",
                kernel="0",
                previous_stop="dirty",
                machine=self.machine,
                previous_boot=self.previous_boot,
            ),
            [],
            self._spool_facts(),
        )
        self.births.append((self.boot, birth.digest))
        self._spooled(birth)

    def stop_agent(self, now: float) -> bytes | None:
        """Orderly: the last record of each volume."""
        if not self.running:
            return None
        for keeper in self.keepers.values():
            self._append(keeper, now, clean_stop=True)
        goodbye = self.session.death(self._stamp(now)) if self.connected else None
        self.running = self.connected = False
        return goodbye

    def connect(self, now: float) -> bytes:
        """A new connection; its will."""
        number, will = self.session.connecting(self._stamp(now))
        self.session.connected(self._stamp(now), number)
        self.connection, self.connected = number, True
        return will

    def disconnect(self) -> None:
        """The connection is gone, the agent goes on."""
        if self.connected:
            self.session.disconnected(self.connection)
        self.connected = False

    def notice(self, cause: ReadCause) -> None:
        """Something happened after which every chain is read back."""
        for keeper in self.keepers.values():
            keeper.wanted.append(cause)

    def turn(self, now: float) -> list[bytes]:
        """What is due now; the messages that leave."""
        for keeper in self.keepers.values():
            self._keep(keeper, now)
        if not self.connected:
            return []
        self.session.section(self._stamp(now), self._section(now))
        sent: list[bytes] = []
        while True:
            step = self.session.step(self._stamp(now), self._spool_facts())
            for publish in step.publish:
                sent.append(publish.payload)
                self.session.published(self.connection, publish.token)
            if step.load is None:
                return sent
            after = step.load.after or Position(0, 0)
            stored = sorted(position for position in self.state.spool if position > after)
            self.session.loaded(
                step.load, [self.state.spool[position] for position in stored[: step.load.messages_max]]
            )

    def heard(self, payload: bytes, now: float) -> None:
        """Take in an answer of the collector."""
        message = decode_down(payload)
        match message:
            case Ack():
                spool, newest = dict(self.state.spool), self.state.acknowledged
                for acked in self.session.acked(self._stamp(now), message):
                    position = Position(acked.epoch, acked.seq)
                    held = spool.get(position)
                    if held is None or held.digest != acked.digest:
                        continue
                    del spool[position]
                    newest = max(position, newest or position)
                    digest, volume, chain_id, seq = self.awaited.pop(position, ("", "", "", 0))
                    writer = self.keepers[volume].writer if volume else None
                    if writer is not None and writer.chain_id == chain_id and digest == acked.digest:
                        writer.acknowledged(seq)
                self._save(spool=spool, acknowledged=newest)
            case Resend():
                self.session.resend(self._stamp(now), message)
            case Expect() if message.install_id == self.install_id:
                for expected in message.chains:
                    keeper = self.keepers.get(expected.volume)
                    if keeper is None or keeper.writer is None:
                        continue
                    awaited, keeper.awaiting = keeper.awaiting, False
                    match keeper.writer.expected(expected):
                        case "again":
                            keeper.again_at = now + AGAIN_SECONDS
                        case "begin_anew":
                            self._begin(keeper, now)
                            keeper.append_at = now
                        case "nothing" if awaited:
                            keeper.append_at = now
                        case "nothing":
                            pass
            case _:
                pass

    # ---- a volume's chain ----------------------------------------------------------------------------------------

    def _keep(self, keeper: Keeper, now: float) -> None:
        if keeper.wanted:
            self._read(keeper, keeper.wanted.pop(0), now)
        elif keeper.again_at is not None:
            if now >= keeper.again_at:
                keeper.again_at = None
                self._read(keeper, ReadCause.AGAIN, now)
        elif now >= keeper.append_at:
            keeper.append_at, keeper.awaiting = now + APPEND_SECONDS, False
            if now >= keeper.metadata_at:
                keeper.metadata_at = now + METADATA_SECONDS
                self._renew_metadata(keeper)
            self._append(keeper, now)

    def _renew_metadata(self, keeper: Keeper) -> None:
        writer, medium = keeper.writer, self.media[keeper.volume]
        if writer is None:
            return
        medium.write("metadata", (writer.chain_id, keeper.metadata_seq + 1))
        self.die()
        medium.flush()
        keeper.metadata_seq += 1
        self.die()

    def _append(self, keeper: Keeper, now: float, *, clean_stop: bool = False) -> None:
        writer, medium = keeper.writer, self.media[keeper.volume]
        if writer is None:
            return
        header = medium.read(0)
        if not isinstance(header, bytes) or writer.chain_id not in header.decode("latin-1"):
            keeper.wanted.append(ReadCause.MOUNT)  # the file is another one now
            return
        attempt = writer.attempt(
            Moment(
                epoch=self.state.epoch,
                boot_id=self.boot,
                instance=instance_digest(self.machine.instance_id),
                mount_id=self.mounts,
                wall_ns=round(now * 1e9),
                boottime_ns=round((now - self.booted_at) * 1e9),
            ),
            metadata_seq=keeper.metadata_seq,
            clean_stop=clean_stop,
        )
        self.die()
        medium.write(attempt.slot, attempt.content)
        self.die()
        if self.fsync_fails():
            # The kernel drops what it could not write and calls it clean; some of it may have got there.
            medium.dirty.pop(attempt.slot, None)
            return
        medium.flush()
        self.die()
        writer.confirmed(attempt, 0.001)
        self.die()
        self._promise(
            keeper,
            now,
            Confirmed(
                volume=keeper.volume,
                chain_id=writer.chain_id,
                head=attempt.head,
                previous=attempt.previous,
                written_at=attempt.record.wall_ns / 1e9,
                fsync_seconds=0.001,
                clean_stop=clean_stop,
                acknowledged_seq=attempt.record.acknowledged_seq,
                metadata_seq=attempt.record.metadata_seq,
            ),
        )
        if self.state.chains.get(keeper.volume) != writer.chain_id:
            self._save(chains={**self.state.chains, keeper.volume: writer.chain_id})
        self.die()

    def _read(self, keeper: Keeper, cause: ReadCause, now: float) -> None:
        medium = self.media[keeper.volume]
        known = keeper.writer.chain_id if keeper.writer else keeper.known
        misread = cause is ReadCause.RESUME and self.misreads()
        medium.flush()  # what a killed predecessor left may be read and must then be there
        self.die()
        found = read_ring(medium, known, hidden=3 if misread else 0)
        self.die()
        if found is None:
            if not keeper.absence_told:
                keeper.absence_told = True
                self._tell(now, ReadBack(identity=self._identity(keeper), cause=cause))
            self.die()
            self._begin(keeper, now)
            return
        if keeper.writer is None and found.head is not None and found.head.boot_id != self.boot:
            cause = ReadCause.BOOT
        self._go_on(keeper, found, second=cause is ReadCause.AGAIN)
        self._report(keeper, found, cause, now)
        keeper.append_at, keeper.awaiting = now + ANSWER_AWAITED_SECONDS, True
        self.die()
        if found.header is None:
            self._begin(keeper, now)  # nothing is built upon what is damaged

    def _report(self, keeper: Keeper, found: ChainFound, cause: ReadCause, now: float) -> None:
        head = found.head
        self._tell(
            now,
            ReadBack(
                identity=self._identity(keeper),
                cause=cause,
                chain_id=found.chain_id,
                owner=found.header.owner if found.header else "",
                began_on=keeper.volume,
                head=found.chain_head,
                hashes=found.listed,
                oldest_seq=found.oldest_seq,
                broken=found.broken,
                torn_seq=found.torn_seq,
                acknowledged_seq=keeper.writer.acknowledged_seq if keeper.writer else found.acknowledged_seq,
                clean_stop=head.clean_stop if head else False,
                written_by_boot=head.boot_id if head else "",
                written_at=head.wall_ns / 1e9 if head else 0.0,
                metadata_seq=self._metadata(keeper, found.chain_id),
            ),
        )

    def _go_on(self, keeper: Keeper, found: ChainFound, *, second: bool) -> None:
        if keeper.writer is None or keeper.writer.chain_id != found.chain_id:
            keeper.writer = ChainWriter(found.chain_id, found.slots, found)
        else:
            keeper.writer.read_again(found, second=second)
        keeper.known, keeper.absence_told = found.chain_id, False
        promised = found.head.metadata_seq if found.head else 0
        keeper.metadata_seq = max(self._metadata(keeper, found.chain_id), promised, keeper.metadata_seq)

    def _begin(self, keeper: Keeper, now: float) -> None:
        """A new chain; what lies there is put aside."""
        medium = self.media[keeper.volume]
        header = ChainHeader(
            chain_id=self.ids(),
            owner=self.install_id,
            began_on=keeper.volume,
            filesystem_id=medium.filesystem_id,
            slots=SLOTS,
            created_at=now,
        )
        for slot in range(1, SLOTS + 1):
            if medium.read(slot) is not None:
                medium.write(slot, ZEROS)
        medium.write(0, encode_header(header))
        medium.flush()
        self.die()
        keeper.writer, keeper.metadata_seq = None, 0
        found = read_ring(medium, header.chain_id)
        assert found is not None, "it was made a moment ago"
        self._go_on(keeper, found, second=False)
        self._report(keeper, found, ReadCause.BEGUN, now)

    def _metadata(self, keeper: Keeper, chain_id: str) -> int:
        note = self.media[keeper.volume].read("metadata")
        return note[1] if isinstance(note, tuple) and note[0] == chain_id else 0

    def _identity(self, keeper: Keeper) -> VolumeIdentity:
        return VolumeIdentity(
            volume=keeper.volume,
            fstype="ext4",
            filesystem_id=self.media[keeper.volume].filesystem_id,
            device="sda1",
            mount_id=self.mounts,
        )

    # ---- messages ------------------------------------------------------------------------------------------------

    def _promise(self, keeper: Keeper, now: float, confirmed: Confirmed) -> None:
        message = self.session.witness(self._stamp(now), confirmed)
        assert not isinstance(message, Refusal), message
        head = confirmed.head
        self.told.append(
            Told(
                keeper.volume,
                confirmed.chain_id,
                head.seq,
                bytes.fromhex(head.hash),
                confirmed.acknowledged_seq,
                message.position.epoch,
                message.digest,
            )
        )
        self._spooled(message)
        self.awaited[message.position] = (message.digest, keeper.volume, confirmed.chain_id, head.seq)

    def _tell(self, now: float, read: ReadBack) -> None:
        said = structs.replace(read, machine=self.machine, previous_boot=self.previous_boot)
        message = self.session.chain_report(self._stamp(now), said)
        assert not isinstance(message, Refusal), message
        if read.head is not None:
            found, epoch = bytes.fromhex(read.head.hash), message.position.epoch
            volume = read.identity.volume
            self.told.append(Told(volume, read.chain_id, read.head.seq, found, 0, epoch, message.digest))
        self._spooled(message)

    def _spooled(self, message: Spooled) -> None:
        self._save(spool={**self.state.spool, message.position: message})
        self.die()
        self.session.spooled(message)

    def _stamp(self, now: float) -> Stamp:
        return Stamp(now, now - self.booted_at)

    def _spool_facts(self) -> SpoolFacts:
        spool = self.state.spool
        return SpoolFacts(
            state=SpoolState(messages=len(spool), bytes=0, dropped_total=0, in_memory=False),
            oldest=min(spool, default=None),
            acknowledged=self.state.acknowledged,
        )

    def _section(self, now: float) -> Section:
        return Section(
            probe="volumes",
            status=SectionStatus.OK,
            observed_at=now,
            mono=now - self.booted_at,
            period_seconds=INTERVAL,
            duration_seconds=0.0,
            resources=[
                Resource(
                    kind="volume",
                    name=volume,
                    facts={"durability_class": 1 if volume in self.temporary else 2},
                )
                for volume in self.media
            ],
        )


def read_ring(medium: Medium, remembered: str, *, hidden: int = 0) -> ChainFound | None:
    """The ring, slot by slot; None: there is no file. The newest `hidden` records are not seen."""
    header = medium.read(0)
    if header is None:
        return None
    reading = ChainReading(SLOTS, remembered)
    for slot in range(SLOTS + 1):
        content = medium.read(slot)
        if isinstance(content, bytes) and content is not ZEROS:
            assert len(content) == SLOT_BYTES
            reading.take(slot, content)
    found = reading.found()
    if found.head is None or not 0 < hidden < found.head.seq:
        return found
    reading = ChainReading(SLOTS, remembered)
    for slot in range(SLOTS + 1):
        content = medium.read(slot)
        whole = decode_record(content) if slot and isinstance(content, bytes) else None
        if isinstance(content, bytes) and not (whole and whole.record.seq > found.head.seq - hidden):
            reading.take(slot, content)
    return reading.found()
