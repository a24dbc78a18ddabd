"""What the `volumes` probe reads: plain data, so that a recording of any machine is a test of what is made of it."""

from msgspec import Struct, field


class Space(Struct, frozen=True):
    """What statvfs(3) says of room, whoever asked."""

    block_bytes: int
    blocks: int
    blocks_available: int
    """To an ordinary user."""
    inodes: int
    """0: the filesystem has no such limit."""
    inodes_available: int


class FilesystemRaw(Struct, frozen=True, kw_only=True):
    """What was found out about one volume."""

    space: Space | None = None
    error: str = ""
    """Why statvfs(3) gave nothing, in the system's words."""
    read_only_flag: bool = False
    """statvfs's ST_RDONLY."""
    stat_errno: int = 0
    """Of stat(2) on the mountpoint; only asked of local filesystems."""
    hung_seconds: float | None = None
    device: str = ""
    device_gone: bool = False
    device_read_only: bool = False
    ext4_errors: int | None = None
    ext4_last_error_at: float = 0.0
    ext4_options: str = ""
    """All options in force, those from the superblock's defaults included; read only when there are errors."""


class VolumesRaw(Struct, frozen=True, kw_only=True):
    """The machine's mounts and what was found out about each volume."""

    machine_mounts: str
    """Process 1's mountinfo; empty where the agent may not read it."""
    own_mounts: str
    fstab: str
    kernel: str
    booted_at: float
    filesystems: dict[str, FilesystemRaw] = field(default_factory=dict)
    """Mountpoint → findings."""
    given_up: dict[str, str] = field(default_factory=dict)
    """Device → the kernel's words when it gave the filesystem up in this boot and mounted nothing there since."""
    kernel_log_unreadable: str = ""
    """Why `given_up` says nothing."""
