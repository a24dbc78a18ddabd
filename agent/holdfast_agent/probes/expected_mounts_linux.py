"""Expected mounts against actual ones: what fstab and mount units want, and what the kernel has.

Where an expected filesystem is not mounted, its data seem gone and new ones land on the disk below, to be hidden when
it comes back (catalogue A-23). So an absent one is a volume too, by its mountpoint, with `mounted` false. The inverse:
a filesystem that somebody mounted by hand and nothing will mount again after the next boot.

Which device is mounted is compared by the identities udev read from it (/run/udev/data); without them by where udev's
link of the expected one leads. A duplicated UUID, as of a snapshot attached beside its origin, moves that link.

A mount or unmount wakes it; otherwise it looks every 30 s, which is how soon a change of fstab is seen.
"""

import contextlib
import os
import re
from pathlib import Path

from msgspec import Struct, field

from holdfast_agent.probe import NoData, Observation, Poll, Signal, facts_of
from holdfast_agent.probes.expected_mounts import Findings, mount_findings
from holdfast_agent.probes.mount_awake_linux import MountAwake
from holdfast_agent.probes.mount_table import ExpectedMount, fstab_mounts, tag_folder, unit_mount
from holdfast_agent.probes.mount_watch_linux import MOUNT
from holdfast_agent.probes.mounted_linux import Mounted, read_mounted, text_of
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind

_GENERATED = ("run/systemd/generator", "run/systemd/generator.early", "run/systemd/generator.late")
_UNITS = (
    "etc/systemd/system", "run/systemd/system", *_GENERATED, "usr/local/lib/systemd/system", "usr/lib/systemd/system",
    "lib/systemd/system",
)  # fmt: skip
"""systemd.unit(5), in order of precedence."""
_UDEV_TAGS = {
    "ID_FS_UUID": "UUID",
    "ID_FS_LABEL_ENC": "LABEL",
    "ID_PART_ENTRY_UUID": "PARTUUID",
    "ID_PART_ENTRY_NAME": "PARTLABEL",
}
_ESCAPED = re.compile(r"\\x([0-9a-fA-F]{2})")


class ExpectedMountsRaw(Struct, frozen=True, kw_only=True):
    """What is wanted, what is there, and how the two name devices."""

    mounted: Mounted
    fstab: str
    units: dict[str, str] = field(default_factory=dict)
    """Mount units that are enabled or generated, their drop-ins behind them; those made from fstab are left out."""
    automounts: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    """A source as written → the kernel's name of the device it leads to now."""
    identities: dict[str, list[str]] = field(default_factory=dict)
    """Device → `UUID=…`, `LABEL=…` as udev read them from it."""
    members: dict[str, list[str]] = field(default_factory=dict)
    """Device → all devices of the btrfs it belongs to."""
    places: dict[str, str] = field(default_factory=dict)
    """Mountpoint as written → where it is, when symbolic links lead elsewhere."""


class ExpectedMounts(Poll[ExpectedMountsRaw], MountAwake):
    """Whether what should be mounted is, and from the right device."""

    name = "expected_mounts"
    platforms = frozenset({"linux"})
    cost = (
        "nobody knows that a filesystem is missing, comes from another device, or will be gone after a reboot"
    )
    period_seconds = 30.0
    emits = tuple(
        ("volume", fact)
        for fact in (
            "mountpoint", "expected_mounted", "mounted", "expected_source", "source_differs", "mount_configured",
            "mount_trouble",
        )
    )  # fmt: skip
    told_by = (
        Signal(
            by=MOUNT,
            facts=facts_of(
                "volume", "mountpoint", "mounted", "source_differs", "mount_configured", "mount_trouble"
            ),
        ),
    )

    def read(self) -> ExpectedMountsRaw:
        mounted = read_mounted(self.context)
        fstab = text_of(self.context.rootfs / "etc" / "fstab")
        units, automounts = self._units()
        wanted = [one for one in wanted_mounts(fstab, units, automounts) if one.wanted]
        devices = set(mounted.devices.values())
        return ExpectedMountsRaw(
            mounted=mounted,
            fstab=fstab,
            units=units,
            automounts=automounts,
            links={one.source: name for one in wanted if (name := self._link(one))},
            identities={name: found for name in sorted(devices) if (found := self._identities(name))},
            members=self._members(devices),
            places=self._places(wanted),
        )

    def interpret(self, raw: ExpectedMountsRaw) -> Observation:
        findings = mount_findings(
            wanted_mounts(raw.fstab, raw.units, raw.automounts),
            raw.mounted.volumes(),
            raw.mounted.machine_mounts or raw.mounted.own_mounts,
            Findings(raw.mounted.devices, raw.links, raw.identities, raw.members, raw.places),
        )
        if not findings:
            raise NoData("nothing that keeps data is mounted or should be")
        return Observation(
            resources=[
                Resource(kind=ResourceKind.VOLUME, name=at[:512], facts=facts)
                for at, facts in sorted(findings.items())
            ]
        )

    def _units(self) -> tuple[dict[str, str], list[str]]:
        """Enabled and generated mount units, and the names of those with an `.automount` beside them."""
        root = self.context.rootfs
        names: set[str] = set()
        for folder in ("etc/systemd/system", "run/systemd/system"):
            for link in ("*.wants", "*.requires"):
                names |= {path.name for path in (root / folder).glob(f"{link}/*mount")}
        for folder in _GENERATED:
            names |= {path.name for path in (root / folder).glob("*mount")}
        automounts = sorted(
            name.removesuffix(".automount") + ".mount" for name in names if name.endswith(".automount")
        )
        units = {}
        for name in sorted({name for name in names if name.endswith(".mount")} | set(automounts)):
            text = self._unit(name)
            if text and "SourcePath=/etc/fstab" not in text:
                units[name] = text
        return units, automounts

    def _unit(self, name: str) -> str:
        folders = [self.context.rootfs / folder for folder in _UNITS]
        text = next((found for folder in folders if (found := text_of(folder / name))), "")
        for folder in folders:
            for dropin in sorted((folder / f"{name}.d").glob("*.conf")):
                text += "\n" + text_of(dropin)
        return text

    def _link(self, wanted: ExpectedMount) -> str:
        tag, value = wanted.tag
        if tag:
            path = self.context.rootfs / "dev" / "disk" / tag_folder(tag) / _encoded(value)
        elif value.startswith("/dev/"):
            path = self.context.rootfs / value.lstrip("/")
        else:
            return ""
        real = os.path.realpath(path)
        return real.rpartition("/")[2] if os.path.exists(real) else ""

    def _identities(self, device: str) -> list[str]:
        number = text_of(self.context.sysfs / "class" / "block" / device / "dev").strip()
        found = []
        for line in text_of(self.context.rootfs / "run" / "udev" / "data" / f"b{number}").splitlines():
            key, _, value = line.removeprefix("E:").partition("=")
            if key in _UDEV_TAGS:
                found.append(f"{_UDEV_TAGS[key]}={_ESCAPED.sub(lambda match: chr(int(match[1], 16)), value)}")
        return found

    def _members(self, devices: set[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for folder in (self.context.sysfs / "fs" / "btrfs").glob("*/devices"):
            with contextlib.suppress(OSError):
                names = sorted(os.listdir(folder))
                found |= {name: names for name in names if name in devices and len(names) > 1}
        return found

    def _places(self, wanted: list[ExpectedMount]) -> dict[str, str]:
        """Only symbolic links are followed; nothing that is mounted is touched but on the way."""
        root = self.context.rootfs
        if root != Path("/"):
            return {}
        real = {one.mountpoint: os.path.realpath(one.mountpoint) for one in wanted}
        return {written: place for written, place in real.items() if written != place}


def wanted_mounts(fstab: str, units: dict[str, str], automounts: list[str]) -> list[ExpectedMount]:
    """Everything configured, fstab's word first: its generated units would override others of the same name."""
    found = {one.mountpoint: one for one in reversed(fstab_mounts(fstab))}
    for name, text in units.items():
        unit = unit_mount(name, text, automount=name in automounts)
        if unit is not None:
            found.setdefault(unit.mountpoint, unit)
    return list(found.values())


def _encoded(value: str) -> str:
    """As udev writes it into a link's name: what is not plain becomes `\\xNN` (encode_devnode_name)."""
    plain = "#+-.:=@_"
    return "".join(
        char if char.isalnum() or char in plain else "".join(f"\\x{byte:02x}" for byte in char.encode())
        for char in value
    )
