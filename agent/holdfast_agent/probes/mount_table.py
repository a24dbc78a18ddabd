"""What the administrator wants mounted: fstab(5) and systemd's mount units, as text → structs.

Only what is meant to be there all the time counts: no `noauto`, no swap, nothing of the kernel's own or in memory. With
`x-systemd.automount`, or beside an `.automount` unit, the trigger in its place (autofs) is enough. `nofail` only lets
the boot go on without it; the data is missing all the same. A unit with a Condition may rightly be absent.
"""

from msgspec import Struct

from holdfast_agent.probes.mountinfo import unescape
from holdfast_agent.probes.volume_choice import MEMORY_TYPES, READ_ONLY_TYPES

KERNEL_TYPES = frozenset(
    {
        "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
        "fusectl", "hugetlbfs", "mqueue", "proc", "pstore", "securityfs", "swap", "sysfs", "tracefs",
        "usbfs", "ignore",
    }
)  # fmt: skip


class ExpectedMount(Struct, frozen=True, kw_only=True):
    """One mount that should be there."""

    mountpoint: str
    source: str
    """As it is written: `UUID=…`, `LABEL=…`, a device, an export, a directory to bind."""
    fstype: str
    options: tuple[str, ...]
    origin: str
    """`fstab`, or the unit's name."""
    conditional: bool = False
    """A unit with a Condition: it may rightly be absent."""

    @property
    def bind(self) -> bool:
        return "bind" in self.options or "rbind" in self.options

    @property
    def wanted(self) -> bool:
        """Whether it should be there all the time."""
        return (
            self.mountpoint.startswith("/")
            and not self.conditional
            and self.fstype not in KERNEL_TYPES | MEMORY_TYPES | READ_ONLY_TYPES
            and ("noauto" not in self.options or self.on_demand)
        )

    @property
    def on_demand(self) -> bool:
        return "x-systemd.automount" in self.options or "comment=systemd.automount" in self.options

    @property
    def tag(self) -> tuple[str, str]:
        """(`UUID`, value), (`LABEL`, …), (`PARTUUID`, …), (`PARTLABEL`, …), (`ID`, …); ("", path) for anything else.

        udev's own links say the same: /dev/disk/by-uuid/… and its like.
        """
        name, equals, value = self.source.partition("=")
        if equals and name.upper() in _TAGS:
            return name.upper(), value.strip('"')
        for known, folder in _TAGS.items():
            if self.source.startswith(f"/dev/disk/{folder}/"):
                return known, self.source.rpartition("/")[2]
        return "", self.source


_TAGS = {
    "UUID": "by-uuid",
    "LABEL": "by-label",
    "PARTUUID": "by-partuuid",
    "PARTLABEL": "by-partlabel",
    "ID": "by-id",
}


def tag_folder(tag: str) -> str:
    """The folder of /dev/disk with udev's links of this kind."""
    return _TAGS[tag]


def fstab_mounts(text: str) -> list[ExpectedMount]:
    """Every line that mounts something; swap is left out."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 3 or fields[0].startswith("#") or not fields[1].startswith("/"):
            continue
        found.append(
            ExpectedMount(
                mountpoint=_plain(unescape(fields[1])),
                source=unescape(fields[0]),
                fstype=fields[2],
                options=tuple(fields[3].split(",")) if len(fields) > 3 else (),
                origin="fstab",
            )
        )
    return found


def unit_mount(name: str, text: str, *, automount: bool = False) -> ExpectedMount | None:
    """A `.mount` unit (systemd.mount(5)) with its drop-ins behind it; None when it says not where.

    `automount`: an `.automount` unit stands beside it.
    """
    values: dict[str, str] = {}
    section, conditional = "", False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        elif section == "[Mount]" and "=" in line and line[0] not in "#;":
            key, _, value = line.partition("=")
            values[key.strip()] = value.strip().replace("%%", "%")
        conditional = conditional or line.startswith(("Condition", "Assert"))
    if not values.get("Where", "").startswith("/"):
        return None
    options = tuple(option for option in values.get("Options", "").split(",") if option)
    return ExpectedMount(
        mountpoint=_plain(values["Where"]),
        source=values.get("What", ""),
        fstype=values.get("Type", "auto"),
        options=(*options, "x-systemd.automount") if automount else options,
        origin=name,
        conditional=conditional,
    )


def _plain(path: str) -> str:
    return path.rstrip("/") or "/"
