"""Which machine speaks under a node's name: how many, whether it is still the same one, and what became of it at a boot."""

from collections.abc import Iterable, Mapping

from msgspec import structs

from holdfast_collector.core.chain import ChainState
from holdfast_collector.core.counting import state_event
from holdfast_collector.core.effect import Commit
from holdfast_collector.core.fold import Folded, Order, order
from holdfast_collector.core.judge import Court
from holdfast_collector.core.lives import together
from holdfast_collector.core.node import Node, ResourceKey
from holdfast_collector.core.reboot_fate import Passage, complete, fate
from holdfast_collector.core.record import NodeRecord
from holdfast_collector.core.survival import changed
from holdfast_wire import (
    Birth,
    ChainReport,
    Death,
    Event,
    Machine,
    ReadCause,
    Report,
    UpMessage,
    Witness,
)
from holdfast_wire.message import Value

CLAIM_SECONDS_MIN = 60.0
"""How long a second speaker counts after it was heard. One that is thrown off the broker by the other comes rarely."""


class Standing:
    """The identity of all nodes."""

    def __init__(self, nodes: Mapping[str, Node], court: Court) -> None:
        self._nodes = nodes
        self._court = court
        self._sharing: dict[str, set[str]] = {}
        """machine_id → nodes that have it."""
        self._passing: set[str] = set()
        """Nodes with an open passage."""
        self._doubtful: set[str] = set()
        """Nodes where more than one boot or installation was heard: their claimants change by time alone."""

    def restore(self, at: float) -> None:
        """Take up what the nodes' records say."""
        for node in self._nodes.values():
            self._share(node, Machine(), node.record.machine)
            if node.record.passage is not None:
                self._passing.add(node.name)
        for node in self._nodes.values():
            self.restate(node, at)

    def take_up(self, node: Node, at: float) -> set[ResourceKey]:
        """Take in a node that comes with its record. Its key when its standing is something else now."""
        self._share(node, Machine(), node.record.machine)
        if node.record.passage is not None:
            self._passing.add(node.name)
        return self.restate(node, at)

    def heard(self, node: Node, before: NodeRecord, message: UpMessage, at: float, commit: Commit) -> Folded:
        """A message was taken; what of the node's standing changes with it."""
        folded = Folded(set(), set(), [], [])
        holder = message.boot_id == node.record.boot_id and message.install_id == node.record.install_id
        booted = before.boot_id != node.record.boot_id
        if not holder or booted or node.claimants:
            self._doubtful.add(node.name)
        elif ("node", node.name) in node.testified and isinstance(message, Report | Witness | Event | Death):
            return self._closed(node, at, commit, folded)
        if booted and before.boot_id and node.record.boot_id not in before.boots:
            if node.record.passage is not None:
                folded.add(self.close(node, at, commit))  # it has booted again before all was read
            self._open(node, before.boot_id, at)
        match message:
            case Birth():
                self._identify(node, message.machine)
                self._told(node, message.boot_id, message.previous_boot, message.previous_boot_evidence)
            case ChainReport():
                self._identify(node, message.machine)
                known = message.boot_id == node.record.boot_id  # else it is told of as a boot
                if message.cause is ReadCause.FORK and known and node.record.passage is None:
                    self._open(node, message.boot_id, at)
                self._told(node, message.boot_id, message.previous_boot, "")
            case _:
                pass
        folded.touched |= self.restate(node, at)
        return self._closed(node, at, commit, folded)

    def _closed(self, node: Node, at: float, commit: Commit, folded: Folded) -> Folded:
        passage = node.record.passage
        if passage is not None and complete(passage, at):
            folded.add(self.close(node, at, commit))
        return folded

    def place(self, node: Node, report: Report, at: float) -> Order:
        """Where a report stands among those that counted, its sender's life considered.

        A report that is late by its position, of a boot that lives beside the newest one, comes from a second machine:
        a clone, or what a clone was made of. It is heard in its own right only once the other one is not.
        """
        order_ = order(node, report)
        if order_ is not Order.LATE or not self.beside(node, report):
            return order_
        holder = node.lives[(node.record.install_id, node.record.boot_id)]
        return Order.RIVAL if at - holder.heard_at <= node.grace_seconds else Order.NEWER

    def beside(self, node: Node, message: UpMessage) -> bool:
        """Whether the sender and the name's holder are two machines that lived at once."""
        holder = node.lives.get((node.record.install_id, node.record.boot_id))
        return together(node.lives.get((message.install_id, message.boot_id)), holder)

    def restate(self, node: Node, at: float) -> set[ResourceKey]:
        """Add up the node's standing anew; its key when that is something else now."""
        key = ("node", node.name)
        facts: dict[str, Value] = {}
        if node.record.machine != Machine():
            facts["identity_changed"] = bool(node.record.identity_change)
        if node.lives:
            facts["claimants"] = self._claimants(node, at)
        machine_id = node.record.machine.machine_id
        if machine_id:
            facts["machine_id_shared"] = self._shared(node, machine_id)
        if node.testified.get(key) == facts:
            return set()
        node.testified[key] = facts
        node.testified_at[key] = at
        return {key}

    def overdue(self, at: float) -> list[str]:
        """Nodes whose passage is complete, or whose claimants may have fallen silent."""
        due = [name for name in self._passing if self._complete(name, at)]
        return [*due, *(name for name in self._doubtful if name not in due)]

    def tick(self, node: Node, at: float, commit: Commit) -> Folded:
        """What time alone changes of a node that is overdue."""
        folded = Folded(set(), set(), [], [])
        if self._complete(node.name, at):
            folded = self.close(node, at, commit)
        folded.touched |= self.restate(node, at)
        if node.testified[("node", node.name)].get("claimants", 1) == 1:
            self._doubtful.discard(node.name)
        return folded

    def close(self, node: Node, at: float, commit: Commit) -> Folded:
        """Say what a boot was, once."""
        passage = node.record.passage
        assert passage is not None, "the caller has looked"
        said = fate(passage)
        node.record = structs.replace(node.record, passage=None, fate=said)
        self._passing.discard(node.name)
        key = ("node", node.name)
        folded = state_event(
            node,
            "reboot_fate",
            key,
            said.summary,
            said.fields,
            at,
            self._court.in_force(node.name).rules,
            commit,
        )
        folded.noted.append(("reboot judged", said.summary))
        return folded

    def excuse(self, node: Node, facts: Iterable[str], at: float) -> set[ResourceKey]:
        """An operator took note of what these facts of the node say."""
        names = {name.rpartition(".")[2] for name in facts}
        if "identity_changed" in names and node.record.identity_change:
            node.record = structs.replace(node.record, identity_change="")
        return self.restate(node, at)

    def forget(self, node: Node) -> None:
        """The node is gone."""
        self._passing.discard(node.name)
        self._doubtful.discard(node.name)
        self._share(node, node.record.machine, Machine())

    def _complete(self, name: str, at: float) -> bool:
        node = self._nodes.get(name)
        passage = node.record.passage if node is not None else None
        return passage is not None and complete(passage, at)

    def _open(self, node: Node, previous: str, at: float) -> None:
        chains = {
            record.chain_id: record.volume
            for record in node.chains.values()
            if record.state is ChainState.OPEN
        }
        promised = {chain: head.seq for chain in chains if (head := node.chains[chain].promised) is not None}
        passage = Passage(
            boot_id=node.record.boot_id,
            previous_boot_id=previous,
            since=at,
            chains=chains,
            promised=promised,
        )
        node.record = structs.replace(node.record, passage=passage)
        self._passing.add(node.name)

    def _told(self, node: Node, boot_id: str, stop: str, evidence: str) -> None:
        passage = node.record.passage
        if passage is None or passage.boot_id != boot_id:
            return
        known = stop if stop != "unknown" else passage.stop
        passage = structs.replace(
            passage, told=True, stop=known, stop_evidence=evidence or passage.stop_evidence
        )
        node.record = structs.replace(node.record, passage=passage)

    def _identify(self, node: Node, machine: Machine) -> None:
        before = node.record.machine
        if machine == before or machine == Machine():
            return
        parts = [
            f"{name} {now} where {was} was"
            for name, was, now in (
                ("instance", before.instance_id, machine.instance_id),
                ("machine id", before.machine_id, machine.machine_id),
            )
            if changed(was, now)
        ]
        merged = Machine(
            machine_id=machine.machine_id or before.machine_id,
            instance_id=machine.instance_id or before.instance_id,
            host=machine.host or before.host,
        )
        words = ", ".join(parts)
        record = structs.replace(node.record, machine=merged)
        if words:
            record = structs.replace(record, identity_change=words)
            if record.passage is not None:
                record = structs.replace(record, passage=structs.replace(record.passage, identity=words))
        node.record = record
        self._share(node, before, merged)

    def _share(self, node: Node, before: Machine, now: Machine) -> None:
        if before.machine_id and before.machine_id != now.machine_id:
            self._sharing.get(before.machine_id, set()).discard(node.name)
            if not self._sharing.get(before.machine_id):
                self._sharing.pop(before.machine_id, None)
        if now.machine_id:
            self._sharing.setdefault(now.machine_id, set()).add(node.name)

    def _shared(self, node: Node, machine_id: str) -> bool:
        others = self._sharing.get(machine_id, set()) - {node.name}
        return any(self._nodes[name].reporting is True for name in others if name in self._nodes)

    def _claimants(self, node: Node, at: float) -> int:
        """How many machines speak under the name now: boots that lived at once, and installations that were refused."""
        since = at - max(CLAIM_SECONDS_MIN, 2 * node.grace_seconds)
        holder = node.lives.get((node.record.install_id, node.record.boot_id))
        boots = {
            life.boot_id for life in node.lives.values() if life.heard_at >= since and together(life, holder)
        }
        rivals = {
            install
            for install, heard_at in node.claimants.items()
            if heard_at >= since
            and not any(life.install_id == install and life.boot_id in boots for life in node.lives.values())
        }
        return 1 + len(boots) + len(rivals)
