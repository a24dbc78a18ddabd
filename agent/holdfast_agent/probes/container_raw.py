"""What a container engine says of its containers: plain data, without what may be secret (environments, labels)."""

from typing import Literal

from msgspec import Struct

Runtime = Literal["docker", "libpod"]
"""As the engines call their control groups."""


class ContainerMount(Struct, frozen=True, kw_only=True):
    """One entry of `Mounts`."""

    kind: str
    """`volume`, `bind`, `tmpfs`, …"""
    destination: str
    source: str = ""
    """Where it is on the machine; empty where the engine does not say."""
    name: str = ""
    """A volume's."""
    writable: bool = True


class ContainerRaw(Struct, frozen=True, kw_only=True):
    """One container."""

    id: str
    runtime: Runtime
    name: str
    image: str = ""
    arguments: tuple[str, ...] = ()
    status: str = ""
    """`created`, `running`, `paused`, `restarting`, `exited`, `dead`, …"""
    pid: int = 0
    """Its main process, as the machine numbers it; 0 while it does not run."""
    storage_driver: str = ""
    upper: str = ""
    """Where its writable layer is on the machine; empty where the engine does not say."""
    mounts: tuple[ContainerMount, ...] = ()
    memory: tuple[str, ...] = ()
    """Where a tmpfs of `--tmpfs` is mounted."""
    volumes: tuple[str, ...] = ()
    """What the image declares as volumes."""
    folders: dict[str, str] = {}
    """Variables of the environment that name folders of databases: PGDATA and the like, and no others."""

    @property
    def service(self) -> str:
        """The name of its service's resource: the same when the container is made anew."""
        return f"{self.runtime}-{self.name or self.id[:12]}"


class ContainersRaw(Struct, frozen=True, kw_only=True):
    """All containers of all engines that answered."""

    containers: tuple[ContainerRaw, ...] = ()
    missing: dict[str, str] = {}
    """Socket → why its engine could not be asked, or not for all, and the cure."""
