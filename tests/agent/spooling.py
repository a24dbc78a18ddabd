"""A process that spools messages and says which are safe; tests kill it and count."""

import asyncio
import sys
from pathlib import Path

from holdfast_agent.core.delivery import Spooled
from holdfast_agent.spool import Spool
from holdfast_wire import Position, content_digest


def message(seq: int, *, epoch: int = 1, size: int = 100) -> Spooled:
    """A message whose bytes tell where it belongs."""
    payload = f"{epoch}.{seq}".encode().ljust(size, b".")
    return Spooled(Position(epoch, seq), content_digest(payload), payload)


async def _spool_for_ever(folder: Path, lanes: int) -> None:
    spool = Spool(folder, bytes_max=2**30, messages_max=10**6, changed=lambda event, detail: None)
    await spool.open()
    assert not spool.facts.state.in_memory

    async def lane(number: int) -> None:
        seq = number
        while True:
            await spool.append(message(seq))
            sys.stdout.write(f"{seq}\n")
            sys.stdout.flush()
            seq += lanes

    await asyncio.gather(*(lane(number) for number in range(1, lanes + 1)))


if __name__ == "__main__":
    asyncio.run(_spool_for_ever(Path(sys.argv[1]), int(sys.argv[2])))
