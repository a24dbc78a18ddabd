"""What the kernel's own words mean: a table of log lines that tell of lost data, damage, failing devices.

Each row is made from a format string in the kernel's source (`source` says which), not from lines seen somewhere:
log text is no ABI, and this way a row covers what its `printk` can say, in 4.x to 6.x. Every expression is anchored at
the start of the line, because user space influences what comes later (process and file names).

The device is what the format string names, in a named group:

    dev     a block device (`%pg`, `s_id`, `disk_name`): sda1, dm-0, nvme0n1, loop3
    node    a path of one, as btrfs and ZFS print it: /dev/sda1
    number  major:minor
    scsi    host:channel:target:lun, to be found in sysfs
    process the process a node-wide line is about; such rows have no device

A row whose text names none gives UNNAMED.

Benign twins, and why nothing here matches them: queries that a device may refuse (discard, write-zeroes, pass-through,
SMART); empty drives (`sr0`, `fd0`); `sector 0` of a loop device, which the kernel still reads while snapd takes it
away; the farewell of a device that was pulled; announcements (`Shutdown timeout set to`, `Quota mode: none`); ext4's
daily reminder of old errors, which `filesystem_errors_total` carries.
"""

import re
from enum import StrEnum

from msgspec import Struct


class KernelEvent(StrEnum):
    """The event types of `holdfast_wire.fact.EVENT_TYPES` that a kernel line can be."""

    DATA_LOSS = "kernel_data_loss"
    FILESYSTEM_ERROR = "kernel_filesystem_error"
    IO_ERROR = "kernel_io_error"
    DEVICE_RESET = "kernel_device_reset"
    RECOVERY = "kernel_recovery"
    HUNG_TASK = "kernel_hung_task"
    OOM_KILL = "kernel_oom_kill"
    VM_FORK = "kernel_vm_fork"


UNNAMED = "unknown"
"""The device of a line that names none."""

DATA_LOSS, FILESYSTEM_ERROR, IO_ERROR, DEVICE_RESET, RECOVERY = (
    KernelEvent.DATA_LOSS,
    KernelEvent.FILESYSTEM_ERROR,
    KernelEvent.IO_ERROR,
    KernelEvent.DEVICE_RESET,
    KernelEvent.RECOVERY,
)
NODE_WIDE = frozenset({KernelEvent.HUNG_TASK, KernelEvent.OOM_KILL, KernelEvent.VM_FORK})
"""These happen to the node, not to a device."""


class KernelPattern(Struct, frozen=True, kw_only=True):
    """One kind of line."""

    name: str
    """Stable; goes with the event, so that a rule or a person can tell rows of one type apart."""
    type: KernelEvent
    expression: re.Pattern[str]
    source: str
    """The kernel file, and the format string where the expression does not show it."""
    because: str
    """Why it is of this type."""
    gives_up: bool = False
    """The filesystem takes no more writes until it is unmounted and repaired."""


class Meaning(Struct, frozen=True, kw_only=True):
    """What a line says."""

    pattern: KernelPattern
    device: str = ""
    """As the line names it, see the module; empty for what happens to the node."""
    kind: str = ""
    """`dev`, `node`, `number` or `scsi`: how to read `device`."""


def _row(
    name: str, type_: KernelEvent, expression: str, source: str, because: str, *, gives_up: bool = False
) -> KernelPattern:
    return KernelPattern(
        name=name,
        type=type_,
        expression=re.compile(expression),
        source=source,
        because=because,
        gives_up=gives_up,
    )


_DEV = r"(?P<dev>[\w!-]+)"
_NUMBER = r"(?P<number>\d+:\d+)"
# sd_printk: "sd 0:0:0:0: [sda] …"; scmd_printk adds "tag#12 "; sdev_printk leaves out the disk.
_SD = r"sd (?P<scsi>\d+:\d+:\d+:\d+): (?:\[(?P<dev>sd[a-z]+)\] )?(?:tag#\d+ )?"
_EXT4 = rf"EXT4-fs \({_DEV}\): "
_XFS = rf"XFS \({_DEV}\): "
# Since 5.18 the state letters follow; the colon before them went in 6.7.
_STATE = r"(?::? state \w+)?"
_BTRFS = rf"BTRFS (?:emergency|alert|critical|error|warning) \(device {_DEV}{_STATE}\): "
# j_devname is the device, "-" and the journal's inode number; an external journal has no inode.
_JOURNAL = r"(?P<dev>[\w!-]+?)(?:-\d+)?"

_EXT4_ROWS = (
    _row(
        "ext4_write_failed",
        DATA_LOSS,
        rf"EXT4-fs warning \(device {_DEV}\): ext4_end_bio:\d+: I/O error -?\d+ writing to inode ",
        "fs/ext4/page-io.c ext4_end_bio",
        "a page that write(2) had accepted did not reach the disk; logged as a warning, no counter moves",
    ),
    _row(
        "ext4_allocation_lost",
        DATA_LOSS,
        rf"{_EXT4}(?:Delayed block allocation failed for inode |This should not happen!! Data will be lost)",
        "fs/ext4/inode.c mpage_map_and_submit_extent",
        "no block could be found for data accepted long ago",
    ),
    _row(
        "ext4_potential_loss",
        DATA_LOSS,
        rf"{_EXT4}.* -- potential data loss!",
        "fs/ext4/page-io.c ext4_end_io_end, fs/ext4/inline.c",
        "extents stay unwritten: the file reads as zeroes",
    ),
    _row(
        "ext4_superblock_write_failed",
        DATA_LOSS,
        rf"{_EXT4}(?:previous I/O error to superblock detected|I/O error while writing superblock)",
        "fs/ext4/super.c ext4_commit_super",
        "the superblock did not reach the disk",
    ),
    _row(
        "ext4_read_only",
        DATA_LOSS,
        rf"{_EXT4}Remounting filesystem read-only",
        "fs/ext4/super.c ext4_handle_error",
        "the filesystem refuses writes from now on, whatever its mount options show",
        gives_up=True,
    ),
    _row(
        "ext4_shutdown",
        DATA_LOSS,
        rf"{_EXT4}shut down requested \(\d\)",
        "fs/ext4/ioctl.c ext4_force_shutdown",
        "everything not yet on disk is gone",
        gives_up=True,
    ),
    _row(
        "ext4_aborted",
        DATA_LOSS,
        rf"EXT4-fs error \(device {_DEV}\): ext4_journal_check_start:\d+: comm .*: Detected aborted journal",
        "fs/ext4/ext4_jbd2.c ext4_journal_check_start",
        "the journal is dead, so nothing can be written",
    ),
    _row(
        "ext4_error",
        FILESYSTEM_ERROR,
        rf"EXT4-fs error \(device {_DEV}\)(?:: | in )",
        "fs/ext4/super.c __ext4_error, __ext4_error_inode, __ext4_error_file, __ext4_std_error",
        "the filesystem's structures contradict each other or could not be written",
    ),
    _row(
        "ext4_mounted_with_errors",
        FILESYSTEM_ERROR,
        rf"{_EXT4}warning: mounting fs with errors, running e2fsck is recommended",
        "fs/ext4/super.c ext4_setup_super",
        "errors of an earlier mount were never repaired",
    ),
    _row(
        "ext4_journal_unusable",
        FILESYSTEM_ERROR,
        rf"{_EXT4}error loading journal",
        "fs/ext4/super.c ext4_load_journal",
        "what the journal held cannot be replayed",
    ),
    _row(
        "ext4_recovered",
        RECOVERY,
        rf"{_EXT4}recovery complete",
        "fs/ext4/super.c ext4_fill_super",
        "the journal was replayed: there was no clean unmount",
    ),
    _row(
        "ext4_unchecked",
        RECOVERY,
        rf"{_EXT4}warning: mounting unchecked fs, running e2fsck is recommended",
        "fs/ext4/super.c ext4_setup_super",
        "without a journal, the missing clean flag is the only trace of an unclean unmount",
    ),
    _row(
        "ext2_error",
        FILESYSTEM_ERROR,
        rf"EXT[23]-fs (?:\({_DEV}\): error: |error \(device (?P<node>\S+?)\): )",
        "fs/ext2/super.c ext2_error, fs/ext3 (before 4.3)",
        "the filesystem's structures contradict each other",
    ),
)

_JBD2_ROWS = (
    _row(
        "journal_aborted",
        DATA_LOSS,
        rf"Aborting journal on device {_JOURNAL}\.",
        "fs/jbd2/journal.c jbd2_journal_abort",
        "transactions since the last commit are lost, and no more are taken",
    ),
    _row(
        "journal_superblock_write_failed",
        DATA_LOSS,
        r"JBD2: (?:Error -?\d+ detected when updating|I/O error when updating|previous I/O error detected for) "
        rf"journal superblock (?:update )?for {_JOURNAL}\.",
        "fs/jbd2/journal.c jbd2_write_superblock",
        "the journal cannot be kept",
    ),
    _row(
        "journal_data_flush_failed",
        DATA_LOSS,
        rf"JBD2: Detected IO errors while flushing file data on {_JOURNAL}$",
        "fs/jbd2/commit.c jbd2_journal_commit_transaction (before 6.4)",
        "file data that a transaction promised did not reach the disk",
    ),
    _row(
        "journal_corrupt",
        FILESYSTEM_ERROR,
        rf"JBD2: journal transaction \d+ on {_JOURNAL} is corrupt\.",
        "fs/jbd2/journal.c jbd2_journal_load",
        "the journal cannot be replayed in full",
    ),
)

_XFS_ROWS = (
    _row(
        "xfs_shutdown",
        DATA_LOSS,
        rf"{_XFS}.*(?:Shutting down filesystem|Filesystem has been shut down due to log error)",
        "fs/xfs/xfs_fsops.c xfs_do_force_shutdown, fs/xfs/xfs_log.c xlog_force_shutdown",
        "every operation fails from now on while the mount still looks rw",
        gives_up=True,
    ),
    _row(
        "xfs_shutdown_requested",
        DATA_LOSS,
        rf"{_XFS}User initiated shutdown received",
        "fs/xfs/xfs_fsops.c xfs_do_force_shutdown",
        "somebody shut it down: what was not on disk is gone",
        gives_up=True,
    ),
    _row(
        "xfs_log_write_failed",
        DATA_LOSS,
        rf"{_XFS}log I/O error -?\d+",
        "fs/xfs/xfs_log.c xlog_ioend_work",
        "the log could not be written",
    ),
    _row(
        "xfs_page_discarded",
        DATA_LOSS,
        rf"{_XFS}page discard (?:on page|on inode|unable to remove)",
        "fs/xfs/xfs_aops.c xfs_discard_folio",
        "accepted data was thrown away because no block could be had for it",
    ),
    _row(
        "xfs_metadata_io",
        IO_ERROR,
        rf"{_XFS}(?:metadata I/O error|Failing async write on buffer block|log recovery \w+ I/O error)",
        "fs/xfs/xfs_buf.c xfs_buf_ioerror_alert, xfs_buf_item.c (before 5.9), xfs_log_recover.c",
        "reading or writing metadata failed; XFS tries again, for ever by default",
    ),
    _row(
        "xfs_damaged",
        FILESYSTEM_ERROR,
        rf"{_XFS}(?:Metadata (?:corruption|CRC error) detected|Internal error |Corruption (?:detected|warning)|"
        r"log record CRC mismatch|corrupted root inode|\S+: detected corrupt incore inode|"
        r"log mount/recovery failed|Failed to recover intents|Failed to read root inode)",
        "fs/xfs/xfs_error.c, xfs_log.c, xfs_log_recover.c, xfs_mount.c, xfs_inode.c",
        "structures on disk or in memory are damaged",
    ),
    _row(
        "xfs_recovered",
        RECOVERY,
        rf"{_XFS}Starting recovery \(logdev: ",
        "fs/xfs/xfs_log_recover.c xlog_recover",
        "the log was not empty: there was no clean unmount",
    ),
    _row(
        "iomap_write_failed",
        DATA_LOSS,
        rf"{_DEV}: writeback error on inode \d+, offset \d+, sector \d+",
        "fs/iomap/buffered-io.c iomap_finish_ioend (XFS and others)",
        "a page that write(2) had accepted did not reach the disk",
    ),
)

_BTRFS_ROWS = (
    _row(
        "btrfs_forced_read_only",
        DATA_LOSS,
        rf"BTRFS info \(device {_DEV}{_STATE}\): forced readonly",
        "fs/btrfs/messages.c __btrfs_handle_fs_error",
        "the filesystem refuses writes from now on; logged as information only",
        gives_up=True,
    ),
    _row(
        "btrfs_gave_up",
        DATA_LOSS,
        rf"BTRFS: error \(device {_DEV}{_STATE}\) in \w+:\d+: errno=-?\d+ ",
        "fs/btrfs/messages.c __btrfs_handle_fs_error",
        "a transaction was aborted",
    ),
    _row(
        "btrfs_lost_write",
        DATA_LOSS,
        rf"{_BTRFS}(?:lost (?:page|super block) write due to IO error on |error writing primary super block|"
        r"\d+ errors while writing supers)",
        "fs/btrfs/disk-io.c btrfs_end_super_write, write_all_supers",
        "a write was lost; logged as a warning",
    ),
    _row(
        "btrfs_device_errors",
        IO_ERROR,
        rf"BTRFS error \(device [\w!-]+{_STATE}\): bdev (?P<node>\S+) errs: wr ",
        "fs/btrfs/volumes.c btrfs_dev_stat_inc_and_print",
        "requests to one of its devices failed; the same line at level info only repeats counters at mount",
    ),
    _row(
        "btrfs_damaged",
        FILESYSTEM_ERROR,
        rf"{_BTRFS}(?:csum failed |checksum (?:error|verify failed)|csum error |super block corruption|"
        r"superblock checksum mismatch|parent transid verify failed|bad tree block |bad fsid |bad generation|"
        r"tree first key mismatch|level verify failed|corrupt (?:leaf|node)|"
        r"block=\d+ (?:bad generation|(?:read|write) time tree block corruption)|"
        r"(?:read|write) time tree block corruption|devid \d+ uuid \S+ is missing|dirty buffer transid mismatch|"
        r"unable to fixup|failed to (?:read (?:chunk|log|fs|block)|recover))",
        "fs/btrfs/disk-io.c, inode.c, scrub.c, tree-checker.c, volumes.c",
        "data or metadata does not carry the checksum, place or generation it must",
    ),
    _row(
        "btrfs_critical",
        FILESYSTEM_ERROR,
        rf"BTRFS (?:emergency|alert|critical) \(device {_DEV}{_STATE}\): ",
        "fs/btrfs/messages.c _btrfs_printk, level critical and above",
        "btrfs keeps these levels for damage",
    ),
    _row(
        "btrfs_recovered",
        RECOVERY,
        rf"BTRFS info \(device {_DEV}{_STATE}\): start tree-log replay",
        "fs/btrfs/disk-io.c open_ctree",
        "a log tree was left: there was no clean unmount",
    ),
)

_OTHER_FILESYSTEM_ROWS = (
    _row(
        "f2fs_stopped",
        DATA_LOSS,
        rf"F2FS-fs \({_DEV}\): Stopped filesystem due to reason: \d+",
        "fs/f2fs/super.c f2fs_handle_critical_error",
        "the filesystem refuses writes from now on",
        gives_up=True,
    ),
    _row(
        "zfs_suspended",
        DATA_LOSS,
        r"WARNING: Pool '(?P<dev>[^']+)' has encountered an uncorrectable I/O failure and has been suspended",
        "OpenZFS module/zfs/zio.c zio_suspend",
        "nothing reaches the pool until it is cleared",
    ),
    _row(
        "zfs_request_failed",
        IO_ERROR,
        r"zio pool=\S+ vdev=(?P<node>\S+) error=\d+ type=[12] ",
        "OpenZFS module/os/linux/zfs/vdev_disk.c vdev_disk_error; type 1 reads, 2 writes",
        "a request to a device of the pool failed",
    ),
)

# Block layer. `sr` and `fd` have no medium to fail on; the kernel reads them whenever a drive is empty.
_NOT_EMPTY_DRIVE = r"(?!(?:sr|fd)\d)"
# What a request did, since 5.1: "op 0x1:(WRITE)". Discards and their like are hints which a device may refuse, and
# pass-through requests (DRV_IN) are somebody's questions to it.
_TRANSFER = r"(?!\d)(?! op 0x[0-9a-f]+:\((?!READ|WRITE\)|FLUSH|ZONE_APPEND))"
_LOOP_TAKEN_AWAY = r"(?!loop\d+, sector 0(?: op 0x0:|$| flags))"
_BLOCK_ROWS = (
    _row(
        "page_write_lost",
        DATA_LOSS,
        rf"Buffer I/O error on dev(?:ice)? {_DEV}, logical block \d+, lost a?sync page write",
        "fs/buffer.c end_buffer_async_write, end_buffer_write_sync",
        "the kernel's own word: lost",
    ),
    _row(
        "page_write_lost",
        DATA_LOSS,
        rf"Buffer I/O error on device {_DEV}, logical block \d+$",
        "fs/ext4/page-io.c buffer_io_error",
        "a page of a file did not reach the disk",
    ),
    _row(
        "page_write_lost",
        DATA_LOSS,
        rf"lost page write due to I/O error on {_DEV}$",
        "fs/buffer.c (before 4.2)",
        "the kernel's own word: lost",
    ),
    _row(
        "page_read_failed",
        IO_ERROR,
        rf"Buffer I/O error on dev {_NOT_EMPTY_DRIVE}{_DEV}, logical block \d+(?:, async page read)?$",
        "fs/buffer.c end_buffer_async_read",
        "a block could not be read",
    ),
    _row(
        "request_failed",
        IO_ERROR,
        r"(?:(?:blk_update_request|print_req_error|end_request): )?"
        r"(?:I/O|timeout|critical (?:space allocation|target|nexus|medium)|recoverable transport|protection|"
        r"kernel resource|device resource|device offline|open zones exceeded|active zones exceeded) error, "
        rf"dev {_LOOP_TAKEN_AWAY}{_NOT_EMPTY_DRIVE}{_DEV}, sector \d+{_TRANSFER}",
        "block/blk-mq.c blk_print_req_error, block/blk-core.c blk_errors",
        "the device failed a transfer; what it meant for the data, the layer above says",
    ),
    _row(
        "beyond_end_of_device",
        IO_ERROR,
        rf".*: attempt to access beyond end of device\n{_DEV}: rw=\d*[13579], ",
        "block/blk-core.c bio_check_eod; odd operations write",
        "the filesystem is larger than its device",
    ),
    _row(
        "swap_failed",
        IO_ERROR,
        rf"(?:Write|Read)-error on swap-device \({_NUMBER}:\d+\)",
        "mm/page_io.c end_swap_bio_write, end_swap_bio_read",
        "memory of a process could not be swapped; it is killed when it needs it",
    ),
)

_SCSI_ROWS = (
    _row(
        "scsi_timed_out",
        DEVICE_RESET,
        rf"{_SD}(?:FAILED Result: hostbyte=(?:DID_TIME_OUT|DID_ABORT|DID_RESET|DID_TRANSPORT_DISRUPTED) |"
        r"timing out command, waited \d+s)",
        "drivers/scsi/scsi_logging.c scsi_print_result, scsi_lib.c",
        "the device did not answer in time",
    ),
    _row(
        "scsi_reset",
        DEVICE_RESET,
        rf"{_SD}(?:abort$|device reset$|attempting (?:task abort|device reset|target reset|host reset)!|"
        r"SCSI (?:Host|Bus|device) reset)",
        "drivers/scsi/virtio_scsi.c, vmw_pvscsi.c, mpt3sas/mpt3sas_scsih.c",
        "a driver gave up waiting and reset the device",
    ),
    _row(
        "scsi_offline",
        IO_ERROR,
        rf"{_SD}(?:rejecting I/O to (?:offline|dead) device|"
        r"Device offlined - not ready after error recovery|Medium access timeout failure\. Offlining disk!)",
        "drivers/scsi/scsi_lib.c, scsi_error.c, sd.c",
        "the device takes no more requests",
    ),
    _row(
        "ata_request_failed",
        IO_ERROR,
        r"(?P<dev>ata\d+\.\d\d): failed command: (?:READ|WRITE|FLUSH|DATA SET)",
        "drivers/ata/libata-eh.c ata_eh_link_report",
        "the disk failed a transfer",
    ),
    _row(
        "ata_flush_failed",
        DATA_LOSS,
        r"(?P<dev>ata\d+\.\d\d): FLUSH failed Emask ",
        "drivers/ata/libata-eh.c ata_eh_maybe_retry_flush",
        "the disk's own cache was not written to its medium",
    ),
    _row(
        "ata_disabled",
        IO_ERROR,
        r"(?P<dev>ata\d+\.\d\d): disabled?(?: device)?$",
        "drivers/ata/libata-eh.c ata_dev_disable",
        "the disk takes no more requests",
    ),
    _row(
        "ata_reset",
        DEVICE_RESET,
        r"(?P<dev>ata\d+(?:\.\d\d)?): (?:(?:hard|soft) resetting link|reset failed)",
        "drivers/ata/libata-eh.c ata_eh_reset; silent while disks are first looked for",
        "the disk did not answer, or answered nonsense",
    ),
)

_NVME = r"nvme (?P<dev>nvme\d+): "
_NVME_ROWS = (
    _row(
        "nvme_timed_out",
        DEVICE_RESET,
        rf"{_NVME}I/O (?:tag )?\d+ .*QID \d+ timeout",
        "drivers/nvme/host/pci.c nvme_timeout, tcp.c nvme_tcp_timeout",
        "the device did not answer in time, or its interrupt was lost",
    ),
    _row(
        "nvme_reset",
        DEVICE_RESET,
        rf"{_NVME}(?:controller is down; will reset|Device not ready; aborting |"
        r"resetting controller due to |(?:frozen|failure) state error detected, |"
        r"starting error recovery|Fw activation timeout, reset controller|failed nvme_keep_alive_end_io)",
        "drivers/nvme/host/pci.c, core.c, tcp.c",
        "the controller stopped answering",
    ),
    _row(
        "nvme_removed",
        IO_ERROR,
        rf"{_NVME}(?:Disabling device after reset failure|Removing after probe failure status): -?\d+",
        "drivers/nvme/host/pci.c nvme_reset_work, nvme_remove_dead_ctrl",
        "the controller takes no more requests",
    ),
    _row(
        "nvme_request_failed",
        IO_ERROR,
        r"(?P<dev>nvme\d+(?:c\d+)?n\d+): (?:Read|Write|Flush|Zone Append)\(0x[0-9a-f]+\) @ LBA \d+, ",
        "drivers/nvme/host/core.c nvme_log_error",
        "the device failed a transfer, and this line carries its reason",
    ),
)

_LAYERED_ROWS = (
    _row(
        "md_member_failed",
        IO_ERROR,
        r"md/raid\d*:\S+: Disk failure on (?P<dev>[\w!-]+), disabling device",
        "drivers/md/raid1.c, raid10.c, raid5.c",
        "a member of an array failed; the array goes on with less",
    ),
    _row(
        "md_failed",
        DATA_LOSS,
        r"md/raid\d*:(?P<dev>[\w!-]+): Cannot continue operation \(",
        "drivers/md/raid5.c raid5_error",
        "more members are lost than the array can bear",
    ),
    _row(
        "md_read_failed",
        IO_ERROR,
        r"md/raid\d*:(?P<dev>[\w!-]+): (?:\S+: unrecoverable I/O read error|"
        r"read error (?:not correctable|NOT corrected!!)|read correction write failed)",
        "drivers/md/raid1.c, raid10.c, raid5.c",
        "no copy of a block can be read",
    ),
    _row(
        "md_superblock_write_failed",
        IO_ERROR,
        r"md: super_written gets error=-?\d+",
        "drivers/md/md.c super_written",
        "an array could not note its own state; the line names no device",
    ),
    _row(
        "thin_pool_full",
        DATA_LOSS,
        rf"device-mapper: thin: {_NUMBER}: switching pool to "
        r"(?:out-of-data-space|read-only|fail)(?: \(\S+ IO\))? mode",
        "drivers/md/dm-thin.c notify_of_pool_mode_change",
        "data accepted into the page cache has no block to go to",
    ),
    _row(
        "thin_metadata_failed",
        FILESYSTEM_ERROR,
        rf"device-mapper: thin: {_NUMBER}: (?:metadata operation '\S+' failed|aborting current metadata transaction|"
        r"failed to (?:abort metadata transaction|set 'needs_check'))",
        "drivers/md/dm-thin.c metadata_operation_failed, abort_transaction",
        "the pool's map of who owns which block is in doubt",
    ),
    _row(
        "multipath_path_failed",
        DEVICE_RESET,
        rf"device-mapper: multipath: (?:\d+:\d+: )?Failing path {_NUMBER}",
        "drivers/md/dm-mpath.c fail_path",
        "one way to the device is lost",
    ),
    _row(
        "multipath_no_path",
        IO_ERROR,
        rf"device-mapper: multipath: queue_if_no_path timeout on {_NUMBER}, failing queued IO",
        "drivers/md/dm-mpath.c queue_if_no_path_timeout_work",
        "no way to the device is left, and waiting requests fail",
    ),
    _row(
        "mirror_dead",
        DATA_LOSS,
        r"device-mapper: raid1: (?:All sides of mirror have failed|All replicated volumes dead, failing I/O)",
        "drivers/md/dm-raid1.c; the line names no device",
        "no copy is left",
    ),
    _row(
        "snapshot_lost",
        DATA_LOSS,
        r"device-mapper: snapshots: (?:Invalidating snapshot: |Snapshot overflowed: )",
        "drivers/md/dm-snap.c __invalidate_snapshot; the line names no device",
        "the snapshot is gone, and a backup made from it is torn",
    ),
    _row(
        "integrity_failed",
        IO_ERROR,
        rf"device-mapper: (?:crypt|integrity): {_DEV}: (?:INTEGRITY AEAD ERROR, sector|Checksum failed at sector) ",
        "drivers/md/dm-crypt.c, dm-integrity.c",
        "what was read is not what was written",
    ),
    _row(
        "nbd_lost",
        DEVICE_RESET,
        r"block (?P<dev>nbd\d+): (?:Connection timed out|Dead connection, failed to find a fallback)",
        "drivers/block/nbd.c nbd_xmit_timeout, find_fallback",
        "the server behind the device does not answer",
    ),
)

_NODE_ROWS = (
    _row(
        "hung_task",
        KernelEvent.HUNG_TASK,
        r"INFO: task (?P<process>.+:\d+) blocked(?: in I/O wait)? for more than \d+ seconds",
        "kernel/hung_task.c check_hung_task",
        "a task waits for minutes, usually for a device",
    ),
    _row(
        "oom_kill",
        KernelEvent.OOM_KILL,
        r"(?:(?:Memory cgroup out of memory|Out of memory(?: \(oom_kill_allocating_task\))?): )?"
        r"Killed process (?P<process>\d+ \(.+?\))[, ]",
        "mm/oom_kill.c __oom_kill_process",
        "a process was killed in the middle of whatever it did",
    ),
    _row(
        "vm_fork",
        KernelEvent.VM_FORK,
        r"random: crng reseeded due to virtual machine fork",
        "drivers/char/random.c add_vmfork_randomness",
        "the hypervisor gave this machine a new generation: it runs from a copy",
    ),
)

PATTERNS: tuple[KernelPattern, ...] = (
    *_EXT4_ROWS,
    *_JBD2_ROWS,
    *_XFS_ROWS,
    *_BTRFS_ROWS,
    *_OTHER_FILESYSTEM_ROWS,
    *_BLOCK_ROWS,
    *_SCSI_ROWS,
    *_NVME_ROWS,
    *_LAYERED_ROWS,
    *_NODE_ROWS,
)
"""The first row that fits decides, so the narrower one of two stands first."""

MOUNTED = re.compile(
    rf"{_EXT4}mounted filesystem |"
    r"XFS \((?P<xfs>[\w!-]+)\): (?:Mounting V\d|Unmounting )|"
    rf"BTRFS info \(device (?P<btrfs>[\w!-]+){_STATE}\): (?:first mount|last unmount) of filesystem |"
    r"EXT4-fs \((?P<ext4>[\w!-]+)\): unmounting filesystem"
)
"""A filesystem begins or ends: whatever it gave up before no longer holds. ext4 says the end since 5.18 only."""


def meaning_of(text: str) -> Meaning | None:
    """What the line says, or None when it says nothing of ours."""
    for pattern in PATTERNS:
        match = pattern.expression.match(text)
        if match is None:
            continue
        if pattern.type in NODE_WIDE:
            return Meaning(pattern=pattern)
        for kind in ("dev", "node", "number", "scsi"):
            if named := match.groupdict().get(kind):
                return Meaning(pattern=pattern, device=named, kind=kind)
        return Meaning(pattern=pattern, device=UNNAMED, kind="dev")
    return None


def device_begun(text: str) -> str | None:
    """The device whose filesystem this line says was mounted or unmounted."""
    match = MOUNTED.match(text)
    return match[match.lastgroup] if match and match.lastgroup else None
