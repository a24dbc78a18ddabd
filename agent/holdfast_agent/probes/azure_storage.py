"""What Azure's instance metadata service says of the disks: ephemeral or managed, kind of redundancy, host cache.

None of it shows inside the VM (catalogue A-03, A-04). The shape: instance-metadata-service.md, "Storage metadata".
"""

import msgspec
from msgspec import Struct, field

from holdfast_agent.probes.azure_metadata import ask
from holdfast_agent.probes.metadata_service import METADATA_ADDRESS

_PATH = "/metadata/instance/compute/storageProfile?api-version=2021-02-01"


class AzureDisk(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One disk as Azure has it."""

    caching: str = ""
    """`None`, `ReadOnly`, `ReadWrite`: what the host does before the storage has the data."""
    account_type: str = ""
    """`Premium_LRS`, `Premium_ZRS`, `UltraSSD_LRS`, …"""
    ephemeral: bool | None = None
    """Of the OS disk; None where the service does not say."""


class AzureStorage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The VM's disks."""

    os: AzureDisk = AzureDisk()
    data: dict[str, AzureDisk] = field(default_factory=dict)
    """LUN → disk."""


class _Option(Struct):
    option: str = ""


class _Managed(Struct, rename={"account_type": "storageAccountType"}):
    account_type: str = ""


class _Disk(Struct, rename={"managed": "managedDisk", "differencing": "diffDiskSettings"}):
    lun: str = ""
    caching: str = ""
    managed: _Managed | None = None
    differencing: _Option | None = None


class _Profile(Struct, rename={"os": "osDisk", "data": "dataDisks"}):
    os: _Disk
    data: list[_Disk] = []


def parse_storage_profile(answer: bytes) -> AzureStorage:
    """The service's answer. Raises msgspec.DecodeError when it is another."""
    profile = msgspec.json.decode(answer, type=_Profile)
    option = profile.os.differencing
    return AzureStorage(
        os=_disk(profile.os, None if option is None else option.option == "Local"),
        data={disk.lun: _disk(disk, None) for disk in profile.data},
    )


def ask_storage_profile(address: tuple[str, int] = METADATA_ADDRESS) -> tuple[AzureStorage | None, str]:
    """What the service says, or why it says nothing. Blocks for seconds at most."""
    answer, why = ask(_PATH, address)
    try:
        return (None, why) if answer is None else (parse_storage_profile(answer), "")
    except msgspec.DecodeError as error:
        return None, f"the instance metadata service answers something else: {error}"


def _disk(disk: _Disk, ephemeral: bool | None) -> AzureDisk:
    account_type = disk.managed.account_type if disk.managed else ""
    return AzureDisk(caching=disk.caching, account_type=account_type, ephemeral=ephemeral)
