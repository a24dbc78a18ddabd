"""Preemption: whether the machine's cloud may take it back at any time (Spot, low priority, preemptible; catalogue B-21).

Nothing inside the machine shows it but its cloud's metadata service. Of those the agent asks Azure's alone, where the
chassis' asset tag shows that it is there: once an hour, and every five minutes while there is no answer. Everywhere
else, and wherever it is declared (`preemptible`), nobody is asked.

    declared ──▶ yes, no
    Azure ─────▶ compute/priority: Spot or Low, Regular or nothing said
    a machine without a hypervisor that is no cloud's ──▶ no
    Amazon, Google, all others ──▶ unknown until declared
"""

from typing import Literal

import msgspec
from msgspec import Struct

from holdfast_agent.probe import NoData, Observation, Poll, ProbeContext
from holdfast_agent.probes.azure_metadata import ask
from holdfast_agent.probes.block_sysfs_linux import read_platform
from holdfast_agent.probes.media_raw import PlatformRaw
from holdfast_agent.probes.medium_cloud import AZURE_ASSET_TAG, cloud_of
from holdfast_agent.probes.metadata_service import METADATA_ADDRESS
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_PATH = "/metadata/instance/compute?api-version=2021-02-01"
"""`priority` is there since 2019-02-01, `evictionPolicy` since 2020-12-01 (instance-metadata-service.md)."""
_ASK_SECONDS = 3600.0
_TAKEN_BACK = frozenset({"spot", "low"})
_DECLARE = 'declare probes.preemption.preemptible as "yes" or "no"'


class PreemptionSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[probes.preemption]`."""

    preemptible: Literal["auto", "yes", "no"] = "auto"
    """`auto`: as far as the machine shows it."""


class AzureCompute(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What Azure says of how the VM was bought."""

    priority: str | None = None
    """`Regular`, `Low`, `Spot`; empty where none was asked for; None where the service does not say."""
    eviction_policy: str = ""
    """`Deallocate` or `Delete`; empty for a VM that is not taken back."""


class PreemptionRaw(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What shows whose machine it is, and what its cloud says."""

    platform: PlatformRaw = PlatformRaw()
    azure: AzureCompute | None = None
    azure_unreadable: str = ""
    """Why the service last said nothing."""


class Preemption(Poll[PreemptionRaw]):
    """Whether the machine may be taken back."""

    azure_metadata = METADATA_ADDRESS

    name = "preemption"
    platforms = frozenset({"linux"})
    cost = "nobody knows that a machine which may be taken back at any time keeps the only copy of something"
    period_seconds = 300.0
    timeout_seconds = 10.0
    settings_type = PreemptionSettings
    emits = (("node", "preemptible"), ("node", "preemptible_reason"), ("node", "preemptible_declared"))

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._settings = settings if isinstance(settings, PreemptionSettings) else PreemptionSettings()
        self._azure: AzureCompute | None = None
        self._unreadable = ""
        self._answered_at: float | None = None

    def read(self) -> PreemptionRaw:
        platform = read_platform(self.context.sysfs, self.context.procfs)
        if self._settings.preemptible == "auto" and platform.chassis_asset_tag == AZURE_ASSET_TAG:
            self._ask_azure()
        return PreemptionRaw(platform=platform, azure=self._azure, azure_unreadable=self._unreadable)

    def interpret(self, raw: PreemptionRaw) -> Observation:
        if self._settings.preemptible != "auto":
            word = self._settings.preemptible
            return self._stated(
                word == "yes", f"declared in the agent's configuration (preemptible = {word})", declared=True
            )
        cloud = cloud_of(raw.platform)
        if cloud == "Azure":
            return self._of_azure(raw)
        if cloud:
            return Observation(
                missing={
                    "preemptible": f"only {cloud}'s metadata service tells, and it is not asked; {_DECLARE}"
                }
            )
        if raw.platform.hypervisor is False:
            return self._stated(False, "a machine without a hypervisor", declared=False)
        raise NoData(f"no cloud is known here that takes machines back; if one may, {_DECLARE}")

    def _of_azure(self, raw: PreemptionRaw) -> Observation:
        if raw.azure is None or raw.azure.priority is None:
            why = raw.azure_unreadable or "the instance metadata service does not say"
            return Observation(missing={"preemptible": f"{why}; {_DECLARE}"})
        priority, after = raw.azure.priority, raw.azure.eviction_policy
        if priority.lower() not in _TAKEN_BACK:
            return self._stated(False, f"a VM of Azure with {priority or 'regular'} priority", declared=False)
        then = {"Deallocate": "stopped, without its temporary disk", "Delete": "deleted"}.get(after, "")
        reason = f"a VM of Azure with {priority} priority"
        return self._stated(
            True, f"{reason}, which is {then} when taken back" if then else reason, declared=False
        )

    def _stated(self, preemptible: bool, reason: str, *, declared: bool) -> Observation:
        facts: dict[str, Value] = {
            "preemptible": preemptible,
            "preemptible_reason": reason,
            "preemptible_declared": declared,
        }
        return Observation(resources=[Resource(kind=ResourceKind.NODE, name=self.context.node, facts=facts)])

    def _ask_azure(self) -> None:
        """No answer is no news: what it said before stands, for how a VM was bought does not change while it runs."""
        now = self.context.boot_clock()
        if self._answered_at is not None and now - self._answered_at < _ASK_SECONDS:
            return
        answer, self._unreadable = ask(_PATH, self.azure_metadata)
        if answer is None:
            return
        try:
            self._azure = msgspec.json.decode(answer, type=AzureCompute)
            self._answered_at = now
        except msgspec.DecodeError as error:
            self._unreadable = f"the instance metadata service answers something else: {error}"
