"""Evidence in words: what a chain and a read of it show, for whoever is called at night."""

from collections.abc import Sequence

from holdfast_collector.core.chain import ChainRecord
from holdfast_collector.core.survival import changed
from holdfast_wire import ChainReport, Witness


def loss_words(record: ChainRecord, report: ChainReport) -> str:
    """What surrounds a read that fell short."""
    writer, identity = record.writer, report.identity
    parts = [f"read {report.read_mode} at {report.cause.value.replace('_', ' ')}"]
    if report.boot_id == writer.boot_id:
        parts.append("same boot")
    else:
        parts.append(f"after a boot, the run before ended {_stop(report)}")
    if changed(writer.instance_id, report.machine.instance_id):
        parts.append(f"instance {report.machine.instance_id} where {writer.instance_id} was")
    if changed(writer.filesystem_id, identity.filesystem_id):
        parts.append(f"filesystem {identity.filesystem_id} where {writer.filesystem_id} was")
    if changed(writer.device_id, identity.device_id):
        parts.append(f"device {identity.device_id} where {writer.device_id} was")
    if report.torn_seq:
        parts.append(f"record {report.torn_seq} is torn")
    if report.broken:
        parts.append(f"damaged: {_numbers(report.broken)}")
    if record.metadata_seq > report.metadata_seq:
        parts.append(f"renamed file at {report.metadata_seq} of {record.metadata_seq}")
    return ", ".join(parts)


def fork_words(record: ChainRecord, report: ChainReport, differs: int, agrees: int) -> str:
    """Two lines of one chain, by a read."""
    who = f"boot {report.boot_id} and boot {record.writer.boot_id}"
    if differs:
        return (
            f"two machines write one chain, {who}: record {differs} differs, {agrees} is the last in common"
        )
    return f"two machines write one chain, {who}: both live, record {agrees} is the last known in common"


def witness_fork_words(record: ChainRecord, witness: Witness, sender: str) -> str:
    """Two lines of one chain, by a witness."""
    who = f"boot {witness.boot_id} and boot {record.writer.boot_id}"
    if sender == "alive":
        return (
            f"two machines write one chain, {who}: record {witness.head.seq} was written by the older one after"
            " the newer one had booted"
        )
    return (
        f"two machines write one chain, {who}: record {witness.head.seq}"
        f" does not agree with what is known of records {witness.previous.seq} and {witness.head.seq}"
    )


def corruption_words(record: ChainRecord, broken: Sequence[int]) -> str:
    """Damage in the middle of a chain."""
    return f"{record.volume}: records {_numbers(broken)} are damaged, later ones are whole"


def deleted_words(record: ChainRecord, report: ChainReport) -> str:
    """A chain file that is gone from the filesystem it was on."""
    head = record.target.seq if record.target else 0
    same = record.writer.filesystem_id and report.identity.filesystem_id
    where = "the filesystem is the same" if same else "whether the filesystem is the same is not known"
    what = "another chain has been begun" if report.chain_id else "no chain file is there"
    return f"{record.volume}: {what}, the known one reached record {head}; {where}"


def _stop(report: ChainReport) -> str:
    return {"clean": "in order", "dirty": "without a shutdown"}.get(report.previous_boot, "nobody knows how")


def _numbers(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"{shown} and {len(numbers) - 5} more" if len(numbers) > 5 else shown
