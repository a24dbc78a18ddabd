"""What this machine exports by NFS, and which exports lie to their clients: `async` (catalogue A-22).

With `async` the server acknowledges a client's COMMIT before the data are on its disk, so fsync lies on every client
(exports(5)). /var/lib/nfs/etab has the exports in force with all their options, defaults written out:

    /srv/vm	10.0.0.0/24(rw,async,wdelay,…)	*(ro,sync,…)
"""

import re

from msgspec import Struct

from holdfast_agent.probe import Denied, NoData, Observation, Poll
from holdfast_agent.probes.mount_awake_linux import MountAwake
from holdfast_agent.probes.mounted_linux import Mounted, read_mounted
from holdfast_agent.probes.mountinfo import unescape
from holdfast_agent.probes.small_file import read_small
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_CLIENT = re.compile(r"([^\s(]+)\(([^)]*)\)")


class NfsExportsRaw(Struct, frozen=True, kw_only=True):
    """The exports in force."""

    mounted: Mounted
    etab: str


class NfsExports(Poll[NfsExportsRaw], MountAwake):
    """The exports, by the volume they lie on."""

    name = "nfs_exports"
    platforms = frozenset({"linux"})
    cost = "nobody knows that an NFS export acknowledges writes that are not on the disk"
    period_seconds = 300.0
    emits = (("volume", "nfs_exported_async"), ("volume", "nfs_exports"))

    def read(self) -> NfsExportsRaw:
        path = self.context.rootfs / "var" / "lib" / "nfs" / "etab"
        try:
            etab = read_small(path)
        except PermissionError:
            raise Denied(
                f"{path} may not be read; let the agent's user read it (setfacl -m u:holdfast-agent:r)"
            ) from None
        except OSError:
            raise NoData("this machine is no NFS server") from None
        return NfsExportsRaw(mounted=read_mounted(self.context), etab=etab)

    def interpret(self, raw: NfsExportsRaw) -> Observation:
        places = sorted((volume.mount.mountpoint for volume in raw.mounted.volumes()), key=len)
        exports: dict[str, list[str]] = {}
        for path, client, options in _exports(raw.etab):
            holding = [at for at in places if at == "/" or path == at or path.startswith(at + "/")]
            if holding and "rw" in options:
                word = "async" if "async" in options else "sync"
                exports.setdefault(holding[-1], []).append(f"{path} to {client} {word}")
        if not exports:
            raise NoData("nothing that clients may write to is exported")
        return Observation(
            resources=[
                Resource(kind=ResourceKind.VOLUME, name=at[:512], facts=_facts(found))
                for at, found in sorted(exports.items())
            ]
        )


def _facts(found: list[str]) -> dict[str, Value]:
    lying = [each for each in found if each.endswith(" async")]
    return {"nfs_exported_async": bool(lying), "nfs_exports": "; ".join(lying or found)[:1000]}


def _exports(etab: str) -> list[tuple[str, str, list[str]]]:
    """(path, client, options)."""
    found = []
    for line in etab.splitlines():
        path, _, clients = line.partition("\t")
        if path.startswith("/"):
            found += [
                (unescape(path), client, options.split(",")) for client, options in _CLIENT.findall(clients)
            ]
    return found
