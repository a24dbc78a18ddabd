"""What the `state_paths` probe reads: plain data, so that a recording of any machine is a test of what is made of it."""

from msgspec import Struct, field

from holdfast_agent.probes.container_raw import ContainerRaw
from holdfast_agent.probes.engines.engine import Found
from holdfast_agent.probes.media_raw import MediaRaw

RIGHTS = "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
"""What it takes to look into other users' processes and folders."""
REFUSED = "Permission denied"
"""How a path ends that may not be followed."""


class Place(Struct, frozen=True, kw_only=True):
    """Where a path leads in one service's view of the machine."""

    exists: bool = False
    error: str = ""
    """Why it could not be followed to its end, in the system's words; empty when it was, or when nothing is there."""
    resolved_path: str = ""
    """With symbolic links followed, as far as it exists; what does not exist is appended."""
    mount_id: int = 0
    """The mount the end, or its nearest existing ancestor, is on; 0 when unknown."""
    link_mount_ids: tuple[int, ...] = ()
    """Mounts on which symbolic links on the way lie."""
    folder: bool = False
    inode: int = 0
    filesystem_id: int = 0
    """statvfs's f_fsid; 0 where there is none."""
    bytes: int | None = None


class OpenFile(Struct, frozen=True, kw_only=True):
    """A file that a process holds open for writing."""

    path: str
    process: int
    descriptor: int = -1
    """-1: a shared mapping without a descriptor."""
    mount_id: int = 0
    deleted: bool = False
    shadowed: bool = False
    """Another mount hides it: its path leads elsewhere, or nowhere."""
    bytes: int = 0


class UnitRaw(Struct, frozen=True, kw_only=True):
    """What systemd says of a service's paths (systemd.exec(5))."""

    state_directories: tuple[str, ...] = ()
    cache_directories: tuple[str, ...] = ()
    logs_directories: tuple[str, ...] = ()
    configuration_directories: tuple[str, ...] = ()
    read_write_paths: tuple[str, ...] = ()
    bind_paths: tuple[str, ...] = ()
    """Destinations that may be written to."""
    working_directory: str = ""
    private_tmp: bool = False
    dynamic_user: bool = False
    started_as: tuple[str, ...] = ()
    requires_mounts_for: tuple[str, ...] = ()
    required_units: tuple[str, ...] = ()
    """Requires= and BindsTo=."""
    need_daemon_reload: bool = False
    main_pid: int = 0


class View(Struct, frozen=True, kw_only=True):
    """One service's mounts."""

    mountinfo: str = ""
    """As its main process sees them; empty when that may not be read."""
    denied: str = ""
    """Why its own view could not be had; its paths are then followed in the machine's."""


class ServiceRaw(Struct, frozen=True, kw_only=True):
    """One service and where it was found to keep what."""

    name: str
    unit: UnitRaw | None = None
    running: bool = True
    """False: none of its processes is there now, and `found` is what was known when it ran."""
    engine: str = ""
    found: tuple[Found, ...] = ()
    places: dict[str, Place] = field(default_factory=dict)
    """Path → where it leads."""
    open_files: tuple[OpenFile, ...] = ()
    view: View = View()
    missing: tuple[str, ...] = ()
    """What could not be read, and what stays unknown for it."""
    blind: bool = False
    """What it holds open may not be read."""
    syncs_disabled_by: str = ""
    container: ContainerRaw | None = None
    """What its container engine says of it; None where it is no container, or none may be asked."""
    followed_by_engine: bool = False
    """Its paths were followed on the machine, to where the container engine says they are."""


class StatePathsRaw(Struct, frozen=True, kw_only=True):
    """The machine's mounts and every service that keeps something."""

    machine_mounts: str
    own_mounts: str
    fstab: str
    tmpfiles: tuple[str, ...] = ()
    """tmpfiles.d(5) lines in force."""
    services: list[ServiceRaw] = field(default_factory=list)
    devices: dict[str, str] = field(default_factory=dict)
    """major:minor of a mount → the kernel's name of its block device."""
    media: MediaRaw | None = None
    """What the mounts rest on; None where no backup is kept, for nothing else asks for it."""
    uptime_seconds: float = 0.0
    wall: float = 0.0
    """Unix seconds UTC."""
    systemd_missing: str = ""
    """Why systemd was not asked; empty when it was."""
    containers_missing: dict[str, str] = field(default_factory=dict)
    """Socket of a container engine → why it was not asked, and the cure."""
    cut: str = ""
    """What was left out for its number; empty when nothing was."""
