"""On which host the machine runs, where its platform tells: as a digest, for only whether it is another one matters."""

import hashlib
import os
import time
from pathlib import Path

from holdfast_agent.probe import boot_clock
from holdfast_agent.witness.kvp_pool import host_name, parse_pool, written_in_this_boot

POOL = Path("var/lib/hyperv/.kvp_pool_3")
POOL_BYTES_MAX = 1 << 18
DIGEST_DIGITS = 32
NOT_TOLD = (
    "this platform does not tell on which host the machine runs (only Hyper-V and Azure do, through hv_kvp_daemon): "
    "whether volumes outlive a move to another host or the crash of one is never tested"
)


def host_digest(rootfs: Path = Path("/")) -> str:
    """Of the host's name as it told it in this boot; empty where it did not."""
    try:
        with (rootfs / POOL).open("rb") as file:
            if not written_in_this_boot(os.fstat(file.fileno()).st_mtime, time.time(), boot_clock()):
                return ""
            name = host_name(parse_pool(file.read(POOL_BYTES_MAX)))
    except OSError:
        return ""
    return hashlib.sha256(name.encode()).hexdigest()[:DIGEST_DIGITS] if name else ""
