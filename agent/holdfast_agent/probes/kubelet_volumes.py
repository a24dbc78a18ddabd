"""Volumes of pods, known by where the kubelet keeps them. Pure.

    …/kubelet/pods/UID/volumes/PLUGIN/NAME[/mount]                  PLUGIN with `~` for `/`: kubernetes.io~empty-dir
    …/kubelet/pods/UID/volume-subpaths/NAME/CONTAINER/INDEX         one folder or file of such a volume, mounted once more
    …/kubelet/plugins/kubernetes.io/csi/…/globalmount               where a CSI driver mounts it for all pods

(kubernetes: pkg/kubelet/kubelet_getters.go, pkg/volume/csi; the kubelet's folder is /var/lib/kubelet unless k3s, microk8s
or `--root-dir` have another.) A hostPath has no such folder: it is any other folder of the machine that is mounted into a
container of containerd's or CRI-O's, whose other mounts are known by their places.

What a volume is decides who takes it away: emptyDir goes with its pod, what the kubelet writes from the API (ConfigMap,
Secret, tokens) is written anew, hostPath stays where the pod does not, and all others are volumes with a life of their own.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from holdfast_agent.probes.engines.engine import Found
from holdfast_agent.probes.mountinfo import Mount
from holdfast_agent.probes.state_roles import below, role_of_place
from holdfast_agent.probes.volume_choice import MEMORY_TYPES

PodVolume = Literal["empty_dir", "projected", "persistent", "host_path"]
POD_VOLUMES: tuple[PodVolume, ...] = ("empty_dir", "projected", "persistent", "host_path")
SOURCE = "pod's volume"
CRI = ("cri-containerd-", "crio-")
"""How services begin that are containers of a pod and of no other engine."""

_VOLUME = re.compile(r"(?:^|/)pods/[0-9a-f-]{32,36}/volumes/[a-z0-9.-]+~([a-z0-9-]+)/([^/]+)(?:/|$)")
_SUBPATH = re.compile(r"(?:^|/)pods/[0-9a-f-]{32,36}/volume-subpaths/([^/]+)/")
_GLOBAL = re.compile(r"/plugins/kubernetes\.io/(?:csi/.+/globalmount|[a-z-]+/mounts/.+)$")
_OWN = re.compile(
    r"(?:^|/)pods/[0-9a-f-]{32,36}/(?:etc-hosts$|containers/)|/(?:sandboxes|overlay-containers)/[0-9a-f]+/"
)
"""What kubelet and runtime mount into every container: its hosts, its name, its termination message."""
_EMPTY = frozenset({"empty-dir", "git-repo"})
_PROJECTED = frozenset({"configmap", "secret", "projected", "downward-api", "image"})
_PLUMBING = ("/proc", "/sys", "/dev", "/run", "/var/run", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")


def pod_volume(places: Iterable[str], fstype: str) -> PodVolume | Literal[""]:
    """What is kept at one of the places; they are names of one folder on the machine. Empty for no volume of a pod."""
    found: PodVolume | Literal[""] = ""
    for place in places:
        if match := _VOLUME.search(place):
            return _of_plugin(match[1], fstype)
        if _SUBPATH.search(place) or _GLOBAL.search(place):
            found = "projected" if fstype in MEMORY_TYPES else "persistent"
    return found


def _of_plugin(plugin: str, fstype: str) -> PodVolume:
    if plugin in _EMPTY:
        return "empty_dir"
    # Of a CSI driver in memory: secrets and certificates that it fetches anew for each pod (secrets-store.csi.k8s.io).
    return "projected" if plugin in _PROJECTED or fstype in MEMORY_TYPES else "persistent"


def host_path(service: str, mount: Mount) -> bool:
    """Whether a mount of a container that is no pod's volume is a folder of the machine that its pod asked for."""
    plumbing = any(below(mount.mountpoint, place) for place in _PLUMBING) or bool(_OWN.search(mount.root))
    own = mount.mountpoint == "/" or mount.fstype in MEMORY_TYPES or not mount.major
    return service.startswith(CRI) and not plumbing and not own


def found_in_pod(
    mounts: Sequence[Mount], kinds: Mapping[int, PodVolume | Literal[""]], known: Collection[str]
) -> list[Found]:
    """What a container keeps in its pod's volumes, besides what is known of it. `kinds`: mount's id → what it is.

    Who claims a persistent volume means it to last. emptyDir is for scratch files by Kubernetes' own word
    (kubernetes.io/docs, "Volumes"), and a folder of the machine may be anything.
    """
    found = []
    for mount in mounts:
        place, kind = mount.mountpoint, kinds.get(mount.mount_id, "")
        if "rw" not in mount.options or any(below(path, place) or below(place, path) for path in known):
            continue
        if kind == "empty_dir":
            found.append(Found(path=place, role="temp", source=SOURCE, confidence="medium"))
        elif kind == "persistent":
            found.append(Found(path=place, role=role_of_place(place), source=SOURCE, confidence="medium"))
        elif kind == "host_path":
            found.append(Found(path=place, role=role_of_place(mount.root), source=SOURCE, confidence="low"))
    return [each for each in found if each.role != "runtime"]
