"""What volumes testify: witnesses and reads into chains, and what follows for facts, events and answers.

    witness ──────────────▶ promise ─┐                   ┌─ Commit.chains, in the message's own transaction
    chain_report ─▶ comparison ─▶ reading ─▶ settle ─────┼─ facts of the volume, events, the passage over a boot
    ack, announcement ───────────────┘                   └─ Expect: what the collector holds

Everything is computed as values first and takes effect at the end.
"""

from collections.abc import Iterable, Mapping

from msgspec import structs

from holdfast_collector.core.absence import hear_absence
from holdfast_collector.core.chain import LOSSES, Breach, ChainRecord, ChainState
from holdfast_collector.core.comparison import ABSENT, PRESENT, Case, compare
from holdfast_collector.core.counting import state_event
from holdfast_collector.core.effect import Commit, Effect, Noted, Publish
from holdfast_collector.core.fold import Folded
from holdfast_collector.core.fsync_times import FsyncTimes
from holdfast_collector.core.heard import Heard
from holdfast_collector.core.judge import Court
from holdfast_collector.core.lives import made_at, together
from holdfast_collector.core.node import Node, ResourceKey
from holdfast_collector.core.precedence import (
    boot_is_unread,
    is_stale,
    is_unplaced,
    later_reads,
    sender_of,
    start_is_unread,
)
from holdfast_collector.core.promise import Sender, begun_by, hear_witness
from holdfast_collector.core.reading import begun_by_read, hear_read
from holdfast_collector.core.reboot_fate import noted
from holdfast_collector.core.record import RestoreWindow
from holdfast_collector.core.witness_facts import EXCUSED_BY, observed_at, volumes_of, witness_facts
from holdfast_wire import ChainReport, Expect, Expected, ReadCause, Witness

CHAINS_MAX = 256
"""Per node. A machine has a few volumes, and a volume a new chain once in years."""
EARLY_SECONDS = 300.0
"""How long a message waits for the one that goes before it and was lost on its way: an agent sends again within two
minutes."""
SETTLED_MAX = 16
"""Closed chains per node that are kept to be looked at, when nothing about them is open."""

Changes = dict[str, ChainRecord]
"""chain_id → what it is from now on."""


class Testimony:
    """The chains of all nodes."""

    def __init__(self, nodes: Mapping[str, Node], court: Court) -> None:
        self._nodes = nodes
        self._court = court
        self._holders: dict[str, set[str]] = {}
        """chain_id → nodes that know it."""
        self._restored_at = 0.0
        """When a volume proved last that this collector had forgotten something."""
        self._behind: set[tuple[str, str]] = set()
        """(node, chain_id) that prove it, as long as no operator took note."""

    @property
    def behind_agents(self) -> bool:
        """Whether an agent holds acknowledgements of records this collector does not know: it was restored."""
        return bool(self._behind)

    def restore(self, chains: Iterable[ChainRecord], windows: Iterable[RestoreWindow], at: float) -> None:
        """Take up what the store kept."""
        for record in chains:
            node = self._nodes.get(record.node)
            if node is not None:
                node.chains[record.chain_id] = record
                self._index(record)
        for window in windows:
            node = self._nodes.get(window.node)
            if node is not None:
                node.window = window
        for node in self._nodes.values():
            self.restate(node, at)

    def take_up(self, node: Node, at: float) -> set[ResourceKey]:
        """Take in a node that comes with its chains. Returns the resources whose facts they change."""
        for record in node.chains.values():
            self._index(record)
        return self.restate(node, at) | set(node.testified)

    # ---- messages ------------------------------------------------------------------------------------------------

    def witness(
        self, node: Node, witness: Witness, at: float, commit: Commit, effects: list[Effect]
    ) -> Folded | None:
        """A record is on a volume's medium. None: the message must come again, after the one it depends on."""
        record = node.chains.get(witness.chain_id)
        if record is None:
            if len(node.chains) >= CHAINS_MAX:
                effects.append(Noted(node.name, "chain not taken", f"{CHAINS_MAX} chains are known"))
                return Folded(set(), set(), [], [])
            record = begun_by(witness, at)
        sender = sender_of(node, record, witness)
        later = later_reads(node, record, witness, sender)
        forgetful = self._restored_at > _heard_at(record)
        # A collector that was restored may have forgotten the read itself.
        life = node.lives.get((witness.install_id, witness.boot_id))
        known_since = max(record.reads[-1].at if record.reads else at, life.began_at if life else 0.0)
        remembers = known_since > self._restored_at
        young = at - self._made_at(node, witness, at) < EARLY_SECONDS
        if young and is_unplaced(node, witness):
            return None
        early = remembers and young
        unread = early and sender in {Sender.CURRENT, Sender.NEWER} and start_is_unread(record, witness)
        heard = hear_witness(record, witness, sender, later, at, unread=unread, restored_collector=forgetful)
        if heard.early:
            return None
        node.fsyncs.setdefault(record.volume, FsyncTimes()).add(witness.fsync_seconds)
        said = structs.replace(heard.record, temporary=_temporary(node, heard.record))
        heard = structs.replace(heard, record=said)
        # While a read is doubted, each record is an occasion to ask for the second one: the question may have been lost.
        known = {**node.chains, witness.chain_id: heard.record}.values()
        doubted = [one for one in known if one.awaits_second_read and one.volume == witness.volume]
        if heard.answer or doubted:
            effects.append(_expect(node.name, witness.install_id, witness.volume, doubted or [heard.record]))
        return self._settle(node, [heard], at, commit)

    def read(
        self, node: Node, report: ChainReport, at: float, commit: Commit, effects: list[Effect]
    ) -> Folded | None:
        """A volume was read back: compared, answered, and only then taken in. None: it must come again, after the one
        that its boot began with."""
        made_at = self._made_at(node, report, at)
        announced = node.window.reason if node.window and node.window.until >= at else ""
        here = node.chains.get(report.chain_id) if report.chain_id and report.mounted else None
        if here is not None and here.state is ChainState.ENDED and not is_stale(node, here, report):
            here = structs.replace(here, state=ChainState.OPEN)  # a disk that was given up has come back
        waits = is_unplaced(node, report) or (here is not None and boot_is_unread(here, report))
        if waits and at - made_at < EARLY_SECONDS:
            return None
        others = [
            record
            for record in node.chains.values()
            if report.cause is not ReadCause.BEGUN
            and record.state is ChainState.OPEN
            and record.volume == report.identity.volume
            and (record.chain_id != report.chain_id or not report.mounted)
            and not self._beside(node, record, report)
        ]
        foreign = self._foreign(node, report, here)
        elsewhere = here.volume if here is not None and here.volume != report.identity.volume else ""
        whose = foreign or _anothers_disk(node, report)
        heard = [self._absence(node, report, record, whose, elsewhere, at, announced) for record in others]
        readable = report.mounted and report.chain_id and not (here is None and report.read_error)
        if readable and (here is not None or len(node.chains) < CHAINS_MAX):
            heard.insert(
                0,
                self._presence(node, report, here, foreign, elsewhere, bool(others), made_at, at, announced),
            )
        heard = [_told(one) for one in heard]
        expected = [one.record for one in heard]
        effects.append(_expect(node.name, report.install_id, report.identity.volume, expected))
        return self._settle(node, heard, at, commit)

    def _absence(
        self,
        node: Node,
        report: ChainReport,
        record: ChainRecord,
        foreign: str,
        elsewhere: str,
        at: float,
        announced: str,
    ) -> Heard:
        case = Case(
            report=report,
            chain=record,
            foreign=foreign,
            elsewhere=elsewhere,
            stale=is_stale(node, record, report),
            temporary=_temporary(node, record),
        )
        return hear_absence(case, compare(case, ABSENT), at, announced)

    def _presence(
        self,
        node: Node,
        report: ChainReport,
        here: ChainRecord | None,
        foreign: str,
        elsewhere: str,
        occupied: bool,
        made_at: float,
        at: float,
        announced: str,
    ) -> Heard:
        case = Case(
            report=report,
            chain=here,
            foreign=foreign if here is None else "",
            elsewhere=elsewhere,
            occupied=occupied,
            alive_beside=here is not None and self._beside(node, here, report),
            stale=here is not None and is_stale(node, here, report),
            restored_collector=here is not None and self._restored_at > _heard_at(here),
        )
        row = compare(case, PRESENT)
        if here is not None:
            return hear_read(case, row, made_at, at, announced)
        words = f"{report.identity.volume}: the chain of {foreign}" if foreign else ""
        record = begun_by_read(report, made_at, at, foreign=foreign)
        return Heard(record=record, conclusion=row.conclusion, words=words)

    def _made_at(self, node: Node, message: Witness | ChainReport, at: float) -> float:
        life = node.lives.get((message.install_id, message.boot_id))
        return made_at(life, message.mono) if life else at

    def _beside(self, node: Node, record: ChainRecord, report: ChainReport) -> bool:
        """Whether who wrote the chain, and who read it now, are two machines that lived at once."""
        writer = (record.writer.install_id, record.writer.boot_id)
        if record.suspicion is not None:
            writer = record.suspicion.writer
        return together(node.lives.get(writer), node.lives.get((report.install_id, report.boot_id)))

    def _foreign(self, node: Node, report: ChainReport, here: ChainRecord | None) -> str:
        """Whose chain was found, in words, when it is none of this node's."""
        if here is not None or not report.chain_id:
            return here.foreign if here is not None else ""
        holders = self._holders.get(report.chain_id, set()) - {node.name}
        if holders:
            return f"node {min(holders)}"
        installs = {record.owner for record in node.chains.values()}
        installs |= {report.install_id, node.record.install_id, ""}
        return "" if report.owner in installs else f"installation {report.owner}"

    # ---- what follows --------------------------------------------------------------------------------------------

    def _settle(self, node: Node, heard: list[Heard], at: float, commit: Commit) -> Folded:
        touched: set[ResourceKey] = set()
        notes: list[tuple[str, str]] = []
        passage = node.record.passage
        for one in heard:
            self._keep(node, one.record, commit)
            if one.conclusion is not None and passage is not None and one.record.chain_id in passage.chains:
                passage = noted(
                    passage, one.record.chain_id, one.conclusion, one.words, _newest_read(one.record)
                )
            if one.conclusion is not None:
                notes.append(("chain compared", f"{one.record.volume}: {one.conclusion.value}"))
            for breach in one.breaches:
                notes.append(("promise broken", breach.evidence))
                touched |= self._tell(node, one.record, breach, at, commit)
        if passage is not node.record.passage:
            node.record = structs.replace(node.record, passage=passage)
        self._thin(node, commit)
        return Folded(
            touched | self.restate(node, at), {("volume", one.record.volume) for one in heard}, [], notes
        )

    def _tell(
        self, node: Node, record: ChainRecord, breach: Breach, at: float, commit: Commit
    ) -> set[ResourceKey]:
        """A loss is an event besides, so that it is counted even where nobody is called."""
        if breach.kind not in LOSSES:
            return set()
        fields = {
            "loss": breach.kind.value,
            "chain_id": record.chain_id,
            "records": breach.records,
            "seconds": breach.seconds,
            "announced": breach.announced,
        }
        key = ("volume", record.volume)
        return state_event(
            node,
            "witness_loss",
            key,
            breach.evidence,
            fields,
            at,
            self._court.in_force(node.name).rules,
            commit,
        ).touched

    def _keep(self, node: Node, record: ChainRecord, commit: Commit) -> None:
        node.chains[record.chain_id] = record
        self._index(record)
        commit.chains[(node.name, record.chain_id)] = record

    def _index(self, record: ChainRecord) -> None:
        if not record.foreign:
            self._holders.setdefault(record.chain_id, set()).add(record.node)
        self._restored_at = max(self._restored_at, record.behind_at)
        place = (record.node, record.chain_id)
        if record.behind_at and not record.behind_excused:
            self._behind.add(place)
        else:
            self._behind.discard(place)

    def _drop(self, node: Node, chain_id: str, commit: Commit) -> None:
        del node.chains[chain_id]
        self._behind.discard((node.name, chain_id))
        self._unhold(node.name, chain_id)
        commit.chains[(node.name, chain_id)] = None

    def _unhold(self, name: str, chain_id: str) -> None:
        holders = self._holders.get(chain_id)
        if holders is not None:
            holders.discard(name)
            if not holders:
                del self._holders[chain_id]

    def _thin(self, node: Node, commit: Commit) -> None:
        """Let go of closed chains that nobody need look at."""
        settled = [
            record
            for record in node.chains.values()
            if record.state is not ChainState.OPEN and not any(breach.open for breach in record.breaches)
        ]
        for record in sorted(settled, key=_heard_at)[:-SETTLED_MAX]:
            self._drop(node, record.chain_id, commit)

    def restate(self, node: Node, at: float) -> set[ResourceKey]:
        """Add up what a node's chains say of its volumes anew; the volumes where that is something else now."""
        stated = {}
        for volume, chains in volumes_of(node.chains).items():
            facts = witness_facts(volume, chains, at)
            if facts:
                key = ("volume", volume)
                stated[key] = facts
                node.testified_at[key] = observed_at(chains)
        before = {key: facts for key, facts in node.testified.items() if key[0] == "volume"}
        changed = {key for key in before.keys() | stated.keys() if before.get(key) != stated.get(key)}
        for key in changed:
            if key in stated:
                node.testified[key] = stated[key]
            else:
                del node.testified[key]
                node.testified_at.pop(key, None)
        return changed

    # ---- operators -----------------------------------------------------------------------------------------------

    def acknowledge(
        self, node: Node, volume: str, facts: Iterable[str], reason: str, at: float, commit: Commit
    ) -> set[ResourceKey]:
        """An operator took note of what these facts of a volume say. The only way out for a loss."""
        names = {name.rpartition(".")[2] for name in facts}
        kinds = frozenset(kind for name in names for kind in EXCUSED_BY.get(name, frozenset()))
        for record in [one for one in node.chains.values() if volume in {one.volume, one.found_on}]:
            breaches = tuple(
                structs.replace(breach, acknowledged_at=at, reason=reason)
                if breach.open and breach.kind in kinds
                else breach
                for breach in record.breaches
            )
            after = structs.replace(record, breaches=breaches)
            if "witness_missing" in names:
                after = structs.replace(after, excused=record.missing)
            if "witness_swapped" in names and record.found_on:
                after = structs.replace(after, volume=record.found_on, found_on="", missing="")
            if "witness_foreign" in names and record.foreign:
                after = structs.replace(after, state=ChainState.ENDED)
            if after != record:
                self._keep(node, after, commit)
        self._thin(node, commit)
        return self.restate(node, at)

    def excuse_collector(self, commit: Commit) -> None:
        """An operator took note that the collector had been restored."""
        for name, chain_id in sorted(self._behind):
            node = self._nodes[name]
            self._keep(node, structs.replace(node.chains[chain_id], behind_excused=True), commit)

    def announce(self, node: Node, window: RestoreWindow, commit: Commit) -> None:
        """A restore is under way: what is lost until it ends is on record, and nobody is called."""
        node.window = commit.windows[node.name] = window

    def expire(self, at: float, commit: Commit) -> None:
        """Let go of announcements that are over."""
        for node in self._nodes.values():
            if node.window is not None and node.window.until < at:
                node.window = commit.windows[node.name] = None

    def forget(self, node: Node) -> None:
        """The node is gone; the store drops its chains with it."""
        for chain_id in node.chains:
            self._behind.discard((node.name, chain_id))
            self._unhold(node.name, chain_id)


def _newest_read(record: ChainRecord) -> int:
    """The newest whole record that was read of a chain; 0: none."""
    return record.reads[-1].seq if record.reads else 0


def _expect(node: str, install_id: str, volume: str, records: list[ChainRecord]) -> Publish:
    chains = [
        Expected(
            volume=volume,
            chain_id=record.chain_id,
            head=record.promised,
            frozen=record.state is ChainState.FROZEN,
            doubted=record.suspicion is not None,
        )
        for record in records
    ]
    return Publish(
        node,
        Expect(install_id=install_id, chains=chains or [Expected(volume=volume, chain_id="", head=None)]),
    )


def _told(heard: Heard) -> Heard:
    """The answer to a read tells what is held, and the machine holds it against us from then on."""
    record, promised = heard.record, heard.record.promised
    if promised is None or promised.seq <= record.told_seq:
        return heard
    return structs.replace(heard, record=structs.replace(record, told_seq=promised.seq))


def _anothers_disk(node: Node, report: ChainReport) -> str:
    """Whose disk is mounted here, in words: another machine's chain was read on this very filesystem before.

    The agent begins a chain of its own beside that one, and reads its own from then on.
    """
    here = (report.identity.volume, report.identity.filesystem_id)
    return next(
        (
            record.foreign
            for record in node.chains.values()
            if record.state is ChainState.FROZEN
            and here[1]
            and (record.volume, record.writer.filesystem_id) == here
        ),
        "",
    )


def _heard_at(record: ChainRecord) -> float:
    return max(record.head_at, record.began_at, *(read.at for read in record.reads))


def _temporary(node: Node, record: ChainRecord) -> bool:
    """Whether the volume is known to claim no more than to survive a reboot: class D0 or D1. What it was before a boot
    counts until it is told anew, for a temporary disk comes back empty."""
    facts = node.resources.get(("volume", record.volume), {})
    if facts.get("durability_class") is None and facts.get("volatile") is None:
        return record.temporary
    return facts.get("durability_class") in {"D0", "D1", 0, 1} or facts.get("volatile") is True
