"""What a volume's keeper has to say, before it becomes a message: the fields of the two messages without their head."""

from typing import Literal

from msgspec import Struct, field

from holdfast_wire.message import ChainHead, Machine, ReadCause, VolumeIdentity


class Confirmed(Struct, frozen=True, kw_only=True):
    """A record is on the medium, as far as fdatasync says; see `holdfast_wire.Witness`."""

    volume: str
    chain_id: str
    head: ChainHead
    previous: ChainHead
    written_at: float
    fsync_seconds: float
    clean_stop: bool = False
    metadata_seq: int = 0
    acknowledged_seq: int = 0


class ReadBack(Struct, frozen=True, kw_only=True):
    """What was read back of a chain; see `holdfast_wire.ChainReport`."""

    identity: VolumeIdentity
    machine: Machine = Machine()
    cause: ReadCause
    mounted: bool = True
    read_mode: Literal["direct", "buffered"] = "direct"
    read_error: str = ""
    chain_id: str = ""
    owner: str = ""
    began_on: str = ""
    head: ChainHead | None = None
    hashes: list[ChainHead] = field(default_factory=list)
    oldest_seq: int = 0
    broken: list[int] = field(default_factory=list)
    torn_seq: int = 0
    acknowledged_seq: int = 0
    clean_stop: bool = False
    written_by_boot: str = ""
    written_at: float = 0.0
    metadata_seq: int = 0
    cache_differs: bool = False
    previous_boot: Literal["clean", "dirty", "unknown"] = "unknown"


Testimony = Confirmed | ReadBack
