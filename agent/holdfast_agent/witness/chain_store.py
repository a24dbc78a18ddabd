"""A volume's chain as files: finds it, reads it, begins it, puts it aside. Blocks; called from the keeper's thread."""

import errno
import os
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from holdfast_agent.core.chain import SLOTS_MIN, ChainHeader, ring_bytes
from holdfast_agent.durable_file import read_if_there, write_durably
from holdfast_agent.errors import Unsupported
from holdfast_agent.witness.ring_file_linux import RingRead, freeze_ring, make_ring, read_ring
from holdfast_agent.witness.witness_choice import CHAIN, FOLDER, Candidate, WitnessedVolume

METADATA = "metadata"
SHARE_OF_VOLUME = 50
"""A ring takes at most a fiftieth of its filesystem: /boot is a volume too."""
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


class MetadataNote(Struct, frozen=True):
    """The content of the file that is written anew and renamed each time."""

    chain_id: str
    count: int


class NoPlace(Exception):
    """There is no chain, and none can be begun. `denied`: a right is missing that can be granted."""

    def __init__(self, reason: str, *, denied: bool) -> None:
        super().__init__(reason)
        self.denied = denied


class ChainStore:
    """The files of one volume's chain."""

    def __init__(self, volume: WitnessedVolume, install_id: str) -> None:
        self._volume = volume
        self._install_id = install_id
        self.path: Path | None = None
        """Where the chain lies, once it was found or begun."""

    def read(self, remembered_chain_id: str) -> RingRead | None:
        """The chain, read from the medium; None: there is none. Raises OSError when that cannot be told."""
        self.path = None
        trouble: OSError | None = None
        for candidate in self._volume.candidates:
            try:
                found = read_ring(candidate.path, remembered_chain_id)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                trouble = trouble or error
                continue
            self.path = candidate.path
            return found
        if trouble is not None:
            raise trouble
        return None

    def read_of_others(self) -> list[tuple[RingRead, int]]:
        """Chains that other installations of the agent left on this volume, as far as they may be read, each with the
        count in its renamed file."""
        folder = Path(self._volume.path) / FOLDER
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            return []
        found = []
        for name in names:
            if name == self._install_id:
                continue
            try:
                read = read_ring(folder / name / CHAIN)
            except OSError:
                continue  # no chain, or not ours to read
            found.append((read, _count(folder / name / METADATA, read.found.chain_id)))
        return found

    def begin(self, filesystem_id: str, at: float) -> ChainHeader:
        """A new chain at the first place that takes it. Raises NoPlace."""
        header = ChainHeader(
            chain_id=os.urandom(16).hex(),
            owner=self._install_id,
            began_on=self._volume.volume,
            filesystem_id=filesystem_id,
            slots=self._slots(),
            created_at=at,
        )
        refusals: list[tuple[Candidate, OSError]] = []
        for candidate in self._volume.candidates:
            try:
                make_ring(candidate.path, header, candidate.base)
            except OSError as error:
                refusals.append((candidate, error))
                continue
            self.path = candidate.path
            return header
        raise self._no_place(refusals)

    def freeze(self, chain_id: str) -> None:
        """Put the chain aside, as evidence. Raises OSError."""
        if self.path is not None:
            freeze_ring(self.path, chain_id)
            self.path = None

    def metadata_count(self, chain_id: str) -> int:
        """What the renamed file holds; 0: it is not there, not whole, or of another chain."""
        return _count(self.path.with_name(METADATA), chain_id) if self.path is not None else 0

    def write_metadata(self, chain_id: str, count: int) -> None:
        """A new file, synchronised, renamed over the old one, the folder synchronised: what programs rely on when they
        replace a file. Raises OSError."""
        if self.path is not None:
            note = msgspec.json.encode(MetadataNote(chain_id, count))
            write_durably(self.path.with_name(METADATA), note)

    def _slots(self) -> int:
        if sys.platform == "win32":
            raise Unsupported("chains are made on Linux only")
        try:
            room = os.statvfs(self._volume.path)
        except OSError:
            return self._volume.slots_max
        fitting = room.f_blocks * room.f_frsize // SHARE_OF_VOLUME // ring_bytes(0)
        return max(SLOTS_MIN, min(self._volume.slots_max, fitting))

    def _no_place(self, refusals: list[tuple[Candidate, OSError]]) -> NoPlace:
        """The reason of the first place, which is the volume's own."""
        candidate, error = refusals[0]
        denied = [one for one in refusals if one[1].errno in _DENIED]
        said = error.strerror or str(error)
        if not denied:
            return NoPlace(f"no chain can be begun: {said}", denied=False)
        return NoPlace(cure(candidate.base, said), denied=True)


def _count(path: Path, chain_id: str) -> int:
    try:
        note = msgspec.json.decode(read_if_there(path) or b"", type=MetadataNote)
    except (OSError, msgspec.DecodeError):
        return 0
    return note.count if note.chain_id == chain_id else 0


def cure(base: Path, said: str) -> str:
    """What to do where the agent may not write."""
    return (
        f"the agent may not write on {base} ({said}): make {base / FOLDER} a folder of the agent's user, "
        f"and under systemd add ReadWritePaths={base} to its unit"
    )
