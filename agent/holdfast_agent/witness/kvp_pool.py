"""What a Hyper-V host, Azure's included, tells its guest of itself: the host's name, out of a key-value pool.

`hv_kvp_daemon` keeps what the host sends in `/var/lib/hyperv/.kvp_pool_3`: records of a key in 512 bytes and a value in
2,048, each ended by a NUL (tools/hv/hv_kvp_daemon.c and include/uapi/linux/hyperv.h of the kernel). The host sends
anew when the machine boots and when it moves. The file outlives a boot, so one that was not written in this boot tells
of the host before.
"""

KEY_BYTES, VALUE_BYTES = 512, 2048
RECORDS_MAX = 64
NAMES = ("PhysicalHostNameFullyQualified", "PhysicalHostName", "HostName")
"""Keys that name the host, the most exact first ("Data Exchange: Using key-value pairs to share information between the
host and guest on Hyper-V", learn.microsoft.com)."""


def parse_pool(content: bytes) -> dict[str, str]:
    """Key → value of every whole record."""
    pool: dict[str, str] = {}
    size = KEY_BYTES + VALUE_BYTES
    for at in range(0, min(len(content), RECORDS_MAX * size) - size + 1, size):
        key = _text(content[at : at + KEY_BYTES])
        if key:
            pool[key] = _text(content[at + KEY_BYTES : at + size])
    return pool


def host_name(pool: dict[str, str]) -> str:
    """What the host calls itself, in lower case; empty when it does not say."""
    return next((pool[name].lower() for name in NAMES if pool.get(name)), "")


def written_in_this_boot(written_at: float, wall: float, uptime: float) -> bool:
    """Whether a file's time lies in this boot. A clock that was set since then makes that doubtful, and doubt is no."""
    return 0.0 <= wall - written_at <= uptime


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace").strip()
