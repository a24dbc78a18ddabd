"""What the clouds' disks are, by what they say of themselves. Names are matched whole: `nvme_card-pd` is no `nvme_card`.

Azure's SCSI disks are told by the VMBus controller they hang on (azure-vm-utils, udev/80-azure-disk.rules):

    {00000000-0000-*}                          the OS disk, generation 1
    {00000000-0001-*}                          the temporary disk, generation 1
    {f8b3781a-1e82-4818-a1c3-63d806ec15bb}     generation 2: LUN 0 the OS disk, LUN 1 the temporary disk
    {f8b3781b…}, {f8b3781c…}, {f8b3781d…}      data disks

Any Hyper-V names its controllers like generation 1, so that is believed on Azure only, which the chassis' asset tag
shows. Whether an Azure OS disk is managed or ephemeral, and whether a managed disk is in one zone or in three, only the
metadata service tells (`azure_storage`). Over NVMe the OS disk has namespace 1 and a data disk its LUN and two more.
"""

import re

from holdfast_agent.probes.azure_storage import AzureDisk, AzureStorage
from holdfast_agent.probes.durability import HOST_LOCAL, PERSISTENT, REDUNDANT, Medium
from holdfast_agent.probes.media_raw import DeviceRaw, PlatformRaw

AZURE_ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"
"""The same on every Azure VM: "MSFT AZURE VM" in decimal."""

AZURE_TEMPORARY = Medium(
    "azure_temporary", HOST_LOCAL, "the temporary disk of an Azure VM", "temporary disks of an Azure VM"
)
AZURE_LOCAL_NVME = Medium(
    "azure_local_nvme", HOST_LOCAL, "a local NVMe disk of an Azure VM", "local NVMe disks of an Azure VM"
)
AZURE_OS_DISK = Medium(
    "azure_os_disk",
    None,
    "an Azure OS disk, managed or ephemeral: only the metadata service or a declaration can tell",
    "Azure OS disks, managed or ephemeral: only the metadata service or a declaration can tell",
)
AZURE_MANAGED_OS_DISK = Medium(
    "azure_os_disk", PERSISTENT, "a managed OS disk of Azure", "managed OS disks of Azure"
)
AZURE_EPHEMERAL_OS_DISK = Medium(
    "azure_ephemeral_os_disk", HOST_LOCAL, "an ephemeral OS disk of Azure", "ephemeral OS disks of Azure"
)
AZURE_DATA_DISK = Medium(
    "azure_data_disk", PERSISTENT, "a managed data disk of Azure", "managed data disks of Azure"
)
AZURE_ZONE_REDUNDANT = Medium(
    "azure_data_disk",
    REDUNDANT,
    "a managed disk of Azure in three zones",
    "managed disks of Azure in three zones",
)
EC2_INSTANCE_STORE = Medium(
    "ec2_instance_store", HOST_LOCAL, "instance store of EC2", "instance store of EC2"
)
EBS_VOLUME = Medium("ebs_volume", PERSISTENT, "an EBS volume", "EBS volumes")
EC2_XEN = Medium(
    "ec2_xen_disk",
    None,
    "a Xen disk of EC2, EBS or instance store: only a declaration can tell",
    "Xen disks of EC2, EBS or instance store: only a declaration can tell",
)
GCP_LOCAL_SSD = Medium(
    "gcp_local_ssd", HOST_LOCAL, "a local SSD of Google Cloud", "local SSDs of Google Cloud"
)
GCP_PERSISTENT_DISK = Medium(
    "gcp_persistent_disk", PERSISTENT, "a persistent disk of Google Cloud", "persistent disks of Google Cloud"
)

CLOUD_MEDIA = (
    AZURE_TEMPORARY,
    AZURE_LOCAL_NVME,
    AZURE_OS_DISK,
    AZURE_EPHEMERAL_OS_DISK,
    AZURE_DATA_DISK,
    EC2_INSTANCE_STORE,
    EBS_VOLUME,
    EC2_XEN,
    GCP_LOCAL_SSD,
    GCP_PERSISTENT_DISK,
)

_AZURE_NVME_LOCAL = frozenset({"Microsoft NVMe Direct Disk", "Microsoft NVMe Direct Disk v2"})
_AZURE_NVME_REMOTE = "MSFT NVMe Accelerator v1.0"
_AZURE_OS_NAMESPACE = 1
_AZURE_FIRST_DATA_NAMESPACE = 2
_GEN1_OS = re.compile(r".00000000-0000-")
_GEN1_TEMPORARY = re.compile(r".00000000-0001-")
_GEN2_SYSTEM = "{f8b3781a-1e82-4818-a1c3-63d806ec15bb}"
_DATA = re.compile(r"\{f8b3781[bcd]-1e82-4818-a1c3-63d806ec15bb\}")
_GCP_LOCAL_NVME = re.compile(r"nvme_card\d*")
_ADDRESS = re.compile(r"/\d+:\d+:\d+:(\d+)/block/")


def cloud_medium(device: DeviceRaw, platform: PlatformRaw) -> Medium | None:
    """What a cloud's disk is; None when it is none that is known."""
    if device.model in _AZURE_NVME_LOCAL:
        return AZURE_LOCAL_NVME
    if device.model == _AZURE_NVME_REMOTE:
        return _of_azure(device, platform, os=device.namespace_id == _AZURE_OS_NAMESPACE)
    if device.model == "Amazon EC2 NVMe Instance Storage":
        return EC2_INSTANCE_STORE
    if device.model == "Amazon Elastic Block Store":
        return EBS_VOLUME
    if platform.vendor == "Google":
        return _of_google(device)
    if platform.chassis_asset_tag == AZURE_ASSET_TAG:
        return _of_azure_scsi(device, platform)
    if _on_xen_ec2(platform) and "/vbd-" in device.path:
        return EC2_XEN
    return None


def cloud_of(platform: PlatformRaw) -> str:
    """Whose machine it is, by its firmware: `Azure`, `Amazon`, `Google`; empty for all others."""
    if platform.chassis_asset_tag == AZURE_ASSET_TAG:
        return "Azure"
    if platform.vendor == "Google":
        return "Google"
    return "Amazon" if _on_xen_ec2(platform) else ""


def scsi_lun(device: DeviceRaw) -> int | None:
    """The last part of its SCSI address: 3 of `…/1:0:0:3/block/sdc`."""
    found = _ADDRESS.search(f"/{device.path}")
    return int(found[1]) if found else None


def _of_google(device: DeviceRaw) -> Medium | None:
    if device.model == "nvme_card-pd" or (device.vendor == "Google" and device.model == "PersistentDisk"):
        return GCP_PERSISTENT_DISK
    if _GCP_LOCAL_NVME.fullmatch(device.model) or (
        device.vendor == "Google" and device.model == "EphemeralDisk"
    ):
        return GCP_LOCAL_SSD
    return None


def azure_disk(device: DeviceRaw, platform: PlatformRaw) -> AzureDisk | None:
    """What the metadata service said of the disk; None for a disk it does not know, and where it said nothing."""
    medium = cloud_medium(device, platform)
    if platform.azure is None or medium is None:
        return None
    if medium in (AZURE_OS_DISK, AZURE_MANAGED_OS_DISK, AZURE_EPHEMERAL_OS_DISK):
        return platform.azure.os
    return _data_disk(device, platform.azure) if medium.word == AZURE_DATA_DISK.word else None


def _data_disk(device: DeviceRaw, azure: AzureStorage) -> AzureDisk | None:
    namespace = device.namespace_id
    lun = scsi_lun(device) if namespace is None else namespace - _AZURE_FIRST_DATA_NAMESPACE
    return azure.data.get(str(lun))


def _of_azure(device: DeviceRaw, platform: PlatformRaw, *, os: bool) -> Medium:
    azure = platform.azure
    if not os:
        disk = _data_disk(device, azure) if azure else None
        return AZURE_ZONE_REDUNDANT if disk and disk.account_type.endswith("_ZRS") else AZURE_DATA_DISK
    if azure is None or azure.os.ephemeral is None:
        return AZURE_OS_DISK
    return AZURE_EPHEMERAL_OS_DISK if azure.os.ephemeral else AZURE_MANAGED_OS_DISK


def _of_azure_scsi(device: DeviceRaw, platform: PlatformRaw) -> Medium | None:
    if device.vendor != "Msft" or device.model != "Virtual Disk":
        return None
    controller, lun = device.vmbus_id, scsi_lun(device)
    if _GEN1_TEMPORARY.match(controller) or (controller == _GEN2_SYSTEM and lun == 1):
        return AZURE_TEMPORARY
    if _GEN1_OS.match(controller) or (controller == _GEN2_SYSTEM and lun == 0):
        return _of_azure(device, platform, os=True)
    return _of_azure(device, platform, os=False) if _DATA.fullmatch(controller) else None


def _on_xen_ec2(platform: PlatformRaw) -> bool:
    """EC2's older types: vendor `Xen`, product `HVM domU`, version `4.11.amazon`."""
    return platform.vendor == "Amazon EC2" or "amazon" in platform.version
