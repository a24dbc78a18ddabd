"""Which instance the cloud says this machine is (catalogue B-05).

A machine that was restored, cloned or made anew from a copy has another id under the same agent. The firmware's
`product_uuid` shows it to root alone; the metadata service shows it to everybody. Ids are only compared with earlier
ones from the same source: Azure's `vmId` is the `product_uuid` with its first three groups in either byte order, by
the version of the SMBIOS (instance-metadata-service.md).

    Azure  ── compute/vmId
    Amazon ── the board's asset tag (Nitro), or instance-id by a session's token (IMDSv2)
    Google ── instance/id

An id does not change while the machine runs: it is asked for every five minutes until there is an answer, then once an
hour, for a copy of a running machine goes on with the same agent. What is throttled or refused changes nothing.
"""

import re
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from holdfast_agent.probe import NoData, Observation, Poll, ProbeContext
from holdfast_agent.probes.azure_metadata import ask
from holdfast_agent.probes.block_sysfs_linux import read_platform
from holdfast_agent.probes.media_raw import PlatformRaw
from holdfast_agent.probes.medium_cloud import cloud_of
from holdfast_agent.probes.metadata_service import METADATA_ADDRESS, exchange
from holdfast_agent.probes.small_file import read_small
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_NOTE = "instance"
_ASK_SECONDS = 3600.0
_SHAPE = {
    "Azure": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "Amazon": re.compile(r"i-[0-9a-f]{8,32}"),
    "Google": re.compile(r"[0-9]{1,20}"),
}
_AZURE_PATH = "/metadata/instance/compute/vmId?api-version=2021-02-01&format=text"
_GOOGLE_PATH = "/computeMetadata/v1/instance/id"
_AMAZON_TOKEN_PATH = "/latest/api/token"
_AMAZON_PATH = "/latest/meta-data/instance-id"

Answer = tuple[bytes | None, str]
Address = tuple[str, int]


class CloudInstanceRaw(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What shows whose machine it is, and which."""

    platform: PlatformRaw = PlatformRaw()
    instance_id: str = ""
    """As the cloud last said it; empty while it says nothing."""
    before: str = ""
    """The instance that this agent was on before, by the note it keeps; only where it changed in this boot."""
    unreadable: str = ""
    """Why the service last said nothing."""


class _Known(Struct, frozen=True):
    """The cursor's note."""

    instance: str
    """`Azure 02aab8a4-74ef-476e-8182-f6d2ba4166a6`."""
    before: str = ""
    boot_id: str = ""
    """The boot in which the instance was first another one."""


class CloudInstance(Poll[CloudInstanceRaw]):
    """Which instance of its cloud the machine is, and whether it was another."""

    metadata = METADATA_ADDRESS

    name = "cloud_instance"
    platforms = frozenset({"linux"})
    cost = "without root, nobody sees that a cloud made the machine anew from a copy"
    period_seconds = 300.0
    timeout_seconds = 10.0
    emits = tuple(
        ("node", fact) for fact in ("cloud_instance_id", "cloud_instance_changed", "cloud_instance_before")
    )

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        self._instance_id = ""
        self._unreadable = ""
        self._answered_at: float | None = None

    def read(self) -> CloudInstanceRaw:
        platform = read_platform(self.context.sysfs, self.context.procfs)
        cloud = cloud_of(platform)
        if not cloud:
            return CloudInstanceRaw(platform=platform)
        self._ask(cloud)
        return CloudInstanceRaw(
            platform=platform,
            instance_id=self._instance_id,
            before=self._compared(f"{cloud} {self._instance_id}") if self._instance_id else "",
            unreadable=self._unreadable,
        )

    def interpret(self, raw: CloudInstanceRaw) -> Observation:
        if not cloud_of(raw.platform):
            raise NoData("no cloud is known here that names its machines")
        if not raw.instance_id:
            why = raw.unreadable or "the instance metadata service does not say"
            return Observation(missing={"cloud_instance_id": why, "cloud_instance_changed": why})
        facts: dict[str, Value] = {
            "cloud_instance_id": raw.instance_id,
            "cloud_instance_changed": bool(raw.before),
            "cloud_instance_before": raw.before,
        }
        return Observation(resources=[Resource(kind=ResourceKind.NODE, name=self.context.node, facts=facts)])

    def _ask(self, cloud: str) -> None:
        """No answer is no news: what it said before in this run stands."""
        now = self.context.boot_clock()
        if self._answered_at is not None and now - self._answered_at < _ASK_SECONDS:
            return
        answer, self._unreadable = self._on_the_board(cloud) or _ASKED[cloud](self.metadata)
        if answer is None:
            return
        said = answer.decode("ascii", "replace").strip().lower()
        if not _SHAPE[cloud].fullmatch(said):
            self._unreadable = f"the instance metadata service answers something else: {said[:60]!r}"
            return
        self._instance_id, self._answered_at = said, now

    def _on_the_board(self, cloud: str) -> Answer | None:
        """Nitro's firmware says the instance's id to everybody ("Identify EC2 instances", docs.aws.amazon.com)."""
        if cloud != "Amazon":
            return None
        try:
            tag = read_small(self.context.sysfs / "class" / "dmi" / "id" / "board_asset_tag").strip()
        except OSError:
            return None
        return (tag.encode(), "") if _SHAPE[cloud].fullmatch(tag) else None

    def _compared(self, instance: str) -> str:
        """The instance before, where this boot is the first on another one; keeps the newest in the note."""
        try:
            known = msgspec.json.decode(self.context.cursors.load(_NOTE) or b"null", type=_Known | None)
        except msgspec.DecodeError:
            known = None
        if known is None or known.instance != instance:
            before = known.instance if known else ""
            known = _Known(instance, before, self.context.boot_id if before else "")
            self.context.cursors.store(_NOTE, msgspec.json.encode(known))
        return known.before if known.boot_id == self.context.boot_id else ""


def _ask_azure(address: Address) -> Answer:
    return ask(_AZURE_PATH, address)


def _ask_google(address: Address) -> Answer:
    return exchange("GET", _GOOGLE_PATH, {"Metadata-Flavor": "Google"}, address)


def _ask_amazon(address: Address) -> Answer:
    """By a token, for many accounts allow no other way (IMDSv2, "Use the Instance Metadata Service")."""
    token, why = exchange("PUT", _AMAZON_TOKEN_PATH, {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, address)
    if token is None:
        return None, why
    try:
        header = token.decode("ascii")
    except UnicodeDecodeError:
        return None, "the instance metadata service answers something else for a token"
    if not header.isprintable():
        return None, "the instance metadata service answers something else for a token"
    return exchange("GET", _AMAZON_PATH, {"X-aws-ec2-metadata-token": header}, address)


_ASKED: Mapping[str, Callable[[Address], Answer]] = {
    "Azure": _ask_azure,
    "Amazon": _ask_amazon,
    "Google": _ask_google,
}
