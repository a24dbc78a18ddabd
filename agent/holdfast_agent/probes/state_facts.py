"""What was read of services and paths → facts. Pure."""

import posixpath
from collections.abc import Mapping, Sequence

from msgspec import Struct, structs

from holdfast_agent.probes.cleaners import Cleaner, cleaned_by
from holdfast_agent.probes.container_raw import ContainerRaw
from holdfast_agent.probes.container_state import Told, told
from holdfast_agent.probes.engines.engine import Found
from holdfast_agent.probes.engines.known import engine_named
from holdfast_agent.probes.kubelet_volumes import POD_VOLUMES, host_path
from holdfast_agent.probes.mountinfo import FstabEntry, Mount
from holdfast_agent.probes.state_memory import Memory
from holdfast_agent.probes.state_mounts import Ending, Machine, parsed
from holdfast_agent.probes.state_raw import REFUSED, OpenFile, Place, ServiceRaw
from holdfast_agent.probes.state_roles import LASTING, REQUIRED_CLASS, STATEFUL, below
from holdfast_agent.probes.unit_paths import depends_on
from holdfast_wire.message import Value

Facts = dict[str, Value]
TEXT_MAX = 500


class Surroundings(Struct, frozen=True, kw_only=True):
    """What every path of a look is judged by."""

    machine: Machine
    fstab: Mapping[str, FstabEntry]
    cleaners: Sequence[Cleaner]
    devices: Mapping[str, str]
    uptime_seconds: float
    today: str
    """`2027-01-31`, UTC."""


def name_of(service: str, path: str) -> str:
    """The name of a state path's resource."""
    return f"{service}:{path}"[:512]


def service_facts(service: ServiceRaw, unresolved: Mapping[str, str]) -> Facts:
    """What is said of a service besides its paths. `unresolved`: path that must last → why nobody knows where it ends."""
    lasting = [found for found in service.found if found.role in STATEFUL and found.confidence != "low"]
    nowhere = bool(service.engine) and not service.found
    stateful = bool(lasting) or nowhere
    facts: Facts = {"state_paths": len(service.found)}
    if service.container is not None and service.unit is None:
        facts["description"] = _described(service.container)
    if stateful or not service.blind:
        facts["stateful"] = stateful
    if service.engine:
        facts["engine"] = service.engine
    if stateful:
        facts["state_paths_unresolved"] = len(unresolved) + nowhere
        facts["state_denied"] = _denied(service, unresolved, nowhere=nowhere)
        if nowhere:
            facts["state_unresolved"] = "; ".join(service.missing)[:TEXT_MAX] or "its paths are not known"
        elif unresolved:
            facts["state_unresolved"] = "; ".join(f"{path}: {why}" for path, why in unresolved.items())[
                :TEXT_MAX
            ]
    if service.syncs_disabled_by or not service.blind:
        facts["syncs_disabled"] = bool(service.syncs_disabled_by)
    if service.syncs_disabled_by:
        facts["syncs_disabled_by"] = service.syncs_disabled_by
    if service.unit is not None:
        facts["needs_daemon_reload"] = service.unit.need_daemon_reload
    return facts


def _denied(service: ServiceRaw, unresolved: Mapping[str, str], *, nowhere: bool) -> bool:
    """Whether one right would show all that is not known of its paths. One that does not run has nothing to look into."""
    if not (service.running and service.view.denied):
        return False
    return nowhere or (bool(unresolved) and set(unresolved.values()) <= {service.view.denied, REFUSED})


def path_facts(service: ServiceRaw, found: Found, around: Surroundings, memory: Memory) -> tuple[Facts, str]:
    """The facts of one path, and why its end is unknown; empty when it is known."""
    facts: Facts = {
        "service": service.name,
        "path": found.path[:TEXT_MAX],
        "role": found.role,
        "source": found.source,
        "confidence": found.confidence,
    }
    facts |= _required(found, around.today)
    name = name_of(service.name, found.path)
    place = service.places.get(found.path, Place(error="not looked at"))
    mount = _mount_of(service, place)
    there = told(service.container, found.path) if service.container else None
    why = place.error if mount is None else _redirected(service, found)
    untouched = bool(place.error)
    if mount is None and there is not None and there.how in ("layer", "memory"):
        why, untouched = "", True
        facts |= _unseen_facts(there, service)
        memory.keep(name)
    elif mount is None or why:
        why = why or "its mount is not in the list of mounts"
        facts["resolved"] = False
        memory.keep(name)
    else:
        container = _contained(service, around.machine)
        ending = around.machine.ending(mount, place.resolved_path or found.path, container=container)
        if there is not None and (
            there.how != "layer" or service.followed_by_engine or mount.mountpoint == "/"
        ):
            ending = _as_told(ending, there)
        if ending.container_volume == "bind" and host_path(service.name, mount):
            ending = structs.replace(ending, container_volume="host_path")
        facts |= _end_facts(place, mount, ending, around)
        facts |= _moved(name, place, mount, ending, around, memory)
        facts |= _threats(service, found, name, place, ending, around, memory)
    if not untouched:
        facts["exists"] = place.exists
    facts |= _held(service, found)
    return facts, why


def _required(found: Found, today: str) -> Facts:
    """The class it must have. When an exception has run out, what the role needs is required again."""
    expired = bool(found.until) and today > found.until
    own = found.required_class is None or expired
    facts: Facts = {"required_class": REQUIRED_CLASS[found.role] if own else found.required_class or 0}
    if found.until:
        facts |= {"exception_until": found.until, "exception_expired": expired}
    return facts


def _mount_of(service: ServiceRaw, place: Place) -> Mount | None:
    if not place.mount_id:
        return None
    return next((m for m in parsed(service.view.mountinfo) if m.mount_id == place.mount_id), None)


def _redirected(service: ServiceRaw, found: Found) -> str:
    """Why the machine's view of the path is not the service's, when the service's own could not be had."""
    if not service.view.denied:
        return ""
    unit = service.unit
    if unit is None or service.name.startswith(("docker-", "libpod-", "cri-containerd-", "crio-")):
        return service.view.denied
    private = unit.private_tmp and (below(found.path, "/tmp") or below(found.path, "/var/tmp"))
    bound = any(below(found.path, each) for each in unit.bind_paths)
    return service.view.denied if private or bound else ""


def _described(container: ContainerRaw) -> str:
    return f"container {container.name} of image {container.image}, {container.status}"[:TEXT_MAX]


def _as_told(ending: Ending, there: Told) -> Ending:
    """The engine knows what a mount is to the container: a `vfs` layer is a folder like any other to the kernel."""
    mounted: str = there.how if there.how in ("named", "anonymous", "bind") else ""
    if ending.container_volume in POD_VOLUMES and mounted == "bind":
        mounted = ending.container_volume  # to Docker, each of its pod's volumes is a folder of the machine
    return structs.replace(
        ending,
        container_layer=there.how == "layer",
        container_volume=mounted,
        volatile=ending.volatile or there.how == "memory",
    )


def _unseen_facts(there: Told, service: ServiceRaw) -> Facts:
    """Of a layer or memory that is nowhere on the machine while the container does not run: that is answer enough."""
    assert service.container is not None, "only a container's engine tells"
    return {
        "resolved": True,
        "fstype": "tmpfs" if there.how == "memory" else service.container.storage_driver,
        "volatile": there.how == "memory",
        "container_layer": there.how == "layer",
        "container_volume": "",
        "syncs_ignored": False,
    }


def _contained(service: ServiceRaw, machine: Machine) -> bool:
    """Whether the service has another root filesystem than the machine."""
    root = next((m for m in reversed(parsed(service.view.mountinfo)) if m.mountpoint == "/"), None)
    return root is not None and bool(machine.root_number) and root.number != machine.root_number


def _end_facts(place: Place, mount: Mount, ending: Ending, around: Surroundings) -> Facts:
    facts: Facts = {
        "resolved": True,
        "resolved_path": place.resolved_path[:TEXT_MAX],
        "crosses_mounts": any(each != place.mount_id for each in place.link_mount_ids),
        "mount_id": place.mount_id,
        "fstype": mount.fstype,
        "device": around.devices.get(mount.number, ""),
        "volatile": ending.volatile,
        "container_layer": ending.container_layer,
        "container_volume": ending.container_volume,
        "syncs_ignored": ending.syncs_ignored,
    }
    if ending.mountpoint:
        facts["mountpoint"] = ending.mountpoint
    if ending.machine_path:
        facts["machine_path"] = ending.machine_path[:TEXT_MAX]
    if place.bytes is not None:
        facts["bytes"] = place.bytes
    return facts


def _moved(
    name: str, place: Place, mount: Mount, ending: Ending, around: Surroundings, memory: Memory
) -> Facts:
    """Whether it is another place than before. A file is replaced by renaming every day, and is no place."""
    # A layer's folders have other numbers in the container than on the machine, and new ones in a new container.
    if not (place.exists and place.folder) or ending.container_layer:
        memory.keep(name)
        return {}
    fingerprint = f"{place.filesystem_id & (1 << 64) - 1:x}:{place.inode}"
    moved_from = memory.moved_from(name, fingerprint, ending.machine_mountpoint, around.uptime_seconds)
    facts: Facts = {"fingerprint": fingerprint, "moved": bool(moved_from)}
    if moved_from:
        facts["moved_from"] = moved_from
    return facts


def _threats(
    service: ServiceRaw,
    found: Found,
    name: str,
    place: Place,
    ending: Ending,
    around: Surroundings,
    memory: Memory,
) -> Facts:
    """A mount that is not there, a cleaner, a unit that would start without its mount."""
    where = ending.machine_path or found.path
    missing = _missing_mount(where, memory.expected(name), around)
    cleaner = "" if REQUIRED_CLASS[found.role] < LASTING else cleaned_by(where, around.cleaners)
    facts: Facts = {"mount_missing": bool(missing), "cleaned": bool(cleaner)}
    if missing:
        facts["missing_mountpoint"] = missing
    if cleaner:
        facts["cleaned_by"] = cleaner
    on = missing or ending.machine_mountpoint
    if service.unit is not None and on:
        facts["mount_dependency"] = depends_on(service.unit, on, around.fstab.get(on))
    return facts


def _missing_mount(path: str, expected: str, around: Surroundings) -> str:
    """The nearest mountpoint above the path that fstab or this boot knows and that nothing is mounted on."""
    wanted = [
        place
        for place, entry in around.fstab.items()
        if "noauto" not in entry.options and entry.fstype not in ("swap", "none", "ignore")
    ]
    absent = [
        place
        for place in (*wanted, expected)
        if place and place != "/" and below(path, place) and place not in around.machine.mountpoints
    ]
    return max(absent, key=len, default="")


def _held(service: ServiceRaw, found: Found) -> Facts:
    """What the service writes to below this path that nobody else can see. Unknown while its files may not be read."""
    if service.blind:
        return {}
    files = [file for file in service.open_files if _home(service, file) == found.path]
    shadowed = next((file for file in files if file.shadowed), None)
    engine = engine_named(service.engine)
    lost = [
        file
        for file in files
        if file.deleted and file.bytes and not (engine and engine.disposable.fullmatch(file.path))
    ]
    facts: Facts = {"shadowed": shadowed is not None, "deleted_open_bytes": sum(file.bytes for file in lost)}
    if shadowed is not None:
        facts["shadowed_file"] = shadowed.path[:TEXT_MAX]
    if lost:
        largest = max(lost, key=lambda file: file.bytes)
        facts["deleted_open_file"] = f"{largest.path} (/proc/{largest.process}/fd/{largest.descriptor})"[
            :TEXT_MAX
        ]
    return facts


def _home(service: ServiceRaw, file: OpenFile) -> str:
    """The service's path that a file belongs to, by the names the service knows; the innermost."""
    homes = [
        found.path
        for found in service.found
        if below(file.path, found.path)
        or below(file.path, service.places.get(found.path, Place()).resolved_path or found.path)
    ]
    return max(homes, key=len, default=posixpath.dirname(file.path))
