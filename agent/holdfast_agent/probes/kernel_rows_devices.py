"""The lines of the block layer, of drivers and device-mapper, and of the machine as a whole."""

from holdfast_agent.probes.kernel_pattern import (
    DATA_LOSS,
    DEV,
    DEVICE_RESET,
    FILESYSTEM_ERROR,
    IO_ERROR,
    NUMBER,
    KernelEvent,
    row,
)

# sd_printk: "sd 0:0:0:0: [sda] …"; scmd_printk adds "tag#12 "; sdev_printk leaves out the disk.
_SD = r"sd (?P<scsi>\d+:\d+:\d+:\d+): (?:\[(?P<dev>sd[a-z]+)\] )?(?:tag#\d+ )?"

# Block layer. `sr` and `fd` have no medium to fail on; the kernel reads them whenever a drive is empty.
_NOT_EMPTY_DRIVE = r"(?!(?:sr|fd)\d)"
# What a request did, since 5.1: "op 0x1:(WRITE)". Discards and their like are hints which a device may refuse, and
# pass-through requests (DRV_IN) are somebody's questions to it.
_TRANSFER = r"(?!\d)(?! op 0x[0-9a-f]+:\((?!READ|WRITE\)|FLUSH|ZONE_APPEND))"
_LOOP_TAKEN_AWAY = r"(?!loop\d+, sector 0(?: op 0x0:|$| flags))"
_BLOCK_ROWS = (
    row(
        "page_write_lost",
        DATA_LOSS,
        rf"Buffer I/O error on dev(?:ice)? {DEV}, logical block \d+, lost a?sync page write",
        "fs/buffer.c end_buffer_async_write, end_buffer_write_sync",
        "the kernel's own word: lost",
    ),
    row(
        "page_write_lost",
        DATA_LOSS,
        rf"Buffer I/O error on device {DEV}, logical block \d+$",
        "fs/ext4/page-io.c buffer_io_error",
        "a page of a file did not reach the disk",
    ),
    row(
        "page_write_lost",
        DATA_LOSS,
        rf"lost page write due to I/O error on {DEV}$",
        "fs/buffer.c (before 4.2)",
        "the kernel's own word: lost",
    ),
    row(
        "page_read_failed",
        IO_ERROR,
        rf"Buffer I/O error on dev {_NOT_EMPTY_DRIVE}{DEV}, logical block \d+(?:, async page read)?$",
        "fs/buffer.c end_buffer_async_read",
        "a block could not be read",
    ),
    row(
        "request_failed",
        IO_ERROR,
        r"(?:(?:blk_update_request|print_req_error|end_request): )?"
        r"(?:I/O|timeout|critical (?:space allocation|target|nexus|medium)|recoverable transport|protection|"
        r"kernel resource|device resource|device offline|open zones exceeded|active zones exceeded) error, "
        rf"dev {_LOOP_TAKEN_AWAY}{_NOT_EMPTY_DRIVE}{DEV}, sector \d+{_TRANSFER}",
        "block/blk-mq.c blk_print_req_error, block/blk-core.c blk_errors",
        "the device failed a transfer; what it meant for the data, the layer above says",
    ),
    row(
        "beyond_end_of_device",
        IO_ERROR,
        rf".*: attempt to access beyond end of device\n{DEV}: rw=\d*[13579], ",
        "block/blk-core.c bio_check_eod; odd operations write",
        "the filesystem is larger than its device",
    ),
    row(
        "swap_failed",
        IO_ERROR,
        rf"(?:Write|Read)-error on swap-device \({NUMBER}:\d+\)",
        "mm/page_io.c end_swap_bio_write, end_swap_bio_read",
        "memory of a process could not be swapped; it is killed when it needs it",
    ),
)

_SCSI_ROWS = (
    row(
        "scsi_timed_out",
        DEVICE_RESET,
        rf"{_SD}(?:FAILED Result: hostbyte=(?:DID_TIME_OUT|DID_ABORT|DID_RESET|DID_TRANSPORT_DISRUPTED) |"
        r"timing out command, waited \d+s)",
        "drivers/scsi/scsi_logging.c scsi_print_result, scsi_lib.c",
        "the device did not answer in time",
    ),
    row(
        "scsi_reset",
        DEVICE_RESET,
        rf"{_SD}(?:abort$|device reset$|attempting (?:task abort|device reset|target reset|host reset)!|"
        r"SCSI (?:Host|Bus|device) reset)",
        "drivers/scsi/virtio_scsi.c, vmw_pvscsi.c, mpt3sas/mpt3sas_scsih.c",
        "a driver gave up waiting and reset the device",
    ),
    row(
        "scsi_offline",
        IO_ERROR,
        rf"{_SD}(?:rejecting I/O to (?:offline|dead) device|"
        r"Device offlined - not ready after error recovery|Medium access timeout failure\. Offlining disk!)",
        "drivers/scsi/scsi_lib.c, scsi_error.c, sd.c",
        "the device takes no more requests",
    ),
    row(
        "ata_request_failed",
        IO_ERROR,
        r"(?P<dev>ata\d+\.\d\d): failed command: (?:READ|WRITE|FLUSH|DATA SET)",
        "drivers/ata/libata-eh.c ata_eh_link_report",
        "the disk failed a transfer",
    ),
    row(
        "ata_flush_failed",
        DATA_LOSS,
        r"(?P<dev>ata\d+\.\d\d): FLUSH failed Emask ",
        "drivers/ata/libata-eh.c ata_eh_maybe_retry_flush",
        "the disk's own cache was not written to its medium",
    ),
    row(
        "ata_disabled",
        IO_ERROR,
        r"(?P<dev>ata\d+\.\d\d): disabled?(?: device)?$",
        "drivers/ata/libata-eh.c ata_dev_disable",
        "the disk takes no more requests",
    ),
    row(
        "ata_reset",
        DEVICE_RESET,
        r"(?P<dev>ata\d+(?:\.\d\d)?): (?:(?:hard|soft) resetting link|reset failed)",
        "drivers/ata/libata-eh.c ata_eh_reset; silent while disks are first looked for",
        "the disk did not answer, or answered nonsense",
    ),
)

_NVME = r"nvme (?P<dev>nvme\d+): "
_NVME_ROWS = (
    row(
        "nvme_timed_out",
        DEVICE_RESET,
        rf"{_NVME}I/O (?:tag )?\d+ .*QID \d+ timeout",
        "drivers/nvme/host/pci.c nvme_timeout, tcp.c nvme_tcp_timeout",
        "the device did not answer in time, or its interrupt was lost",
    ),
    row(
        "nvme_reset",
        DEVICE_RESET,
        rf"{_NVME}(?:controller is down; will reset|Device not ready; aborting |"
        r"resetting controller due to |(?:frozen|failure) state error detected, |"
        r"starting error recovery|Fw activation timeout, reset controller|failed nvme_keep_alive_end_io)",
        "drivers/nvme/host/pci.c, core.c, tcp.c",
        "the controller stopped answering",
    ),
    row(
        "nvme_removed",
        IO_ERROR,
        rf"{_NVME}(?:Disabling device after reset failure|Removing after probe failure status): -?\d+",
        "drivers/nvme/host/pci.c nvme_reset_work, nvme_remove_dead_ctrl",
        "the controller takes no more requests",
    ),
    row(
        "nvme_request_failed",
        IO_ERROR,
        r"(?P<dev>nvme\d+(?:c\d+)?n\d+): (?:Read|Write|Flush|Zone Append)\(0x[0-9a-f]+\) @ LBA \d+, ",
        "drivers/nvme/host/core.c nvme_log_error",
        "the device failed a transfer, and this line carries its reason",
    ),
)

_LAYERED_ROWS = (
    row(
        "md_member_failed",
        IO_ERROR,
        r"md/raid\d*:\S+: Disk failure on (?P<dev>[\w!-]+), disabling device",
        "drivers/md/raid1.c, raid10.c, raid5.c",
        "a member of an array failed; the array goes on with less",
    ),
    row(
        "md_failed",
        DATA_LOSS,
        r"md/raid\d*:(?P<dev>[\w!-]+): Cannot continue operation \(",
        "drivers/md/raid5.c raid5_error",
        "more members are lost than the array can bear",
    ),
    row(
        "md_read_failed",
        IO_ERROR,
        r"md/raid\d*:(?P<dev>[\w!-]+): (?:\S+: unrecoverable I/O read error|"
        r"read error (?:not correctable|NOT corrected!!)|read correction write failed)",
        "drivers/md/raid1.c, raid10.c, raid5.c",
        "no copy of a block can be read",
    ),
    row(
        "md_superblock_write_failed",
        IO_ERROR,
        r"md: super_written gets error=-?\d+",
        "drivers/md/md.c super_written",
        "an array could not note its own state; the line names no device",
    ),
    row(
        "thin_pool_full",
        DATA_LOSS,
        rf"device-mapper: thin: {NUMBER}: switching pool to "
        r"(?:out-of-data-space|read-only|fail)(?: \(\S+ IO\))? mode",
        "drivers/md/dm-thin.c notify_of_pool_mode_change",
        "data accepted into the page cache has no block to go to",
    ),
    row(
        "thin_metadata_failed",
        FILESYSTEM_ERROR,
        rf"device-mapper: thin: {NUMBER}: (?:metadata operation '\S+' failed|aborting current metadata transaction|"
        r"failed to (?:abort metadata transaction|set 'needs_check'))",
        "drivers/md/dm-thin.c metadata_operation_failed, abort_transaction",
        "the pool's map of who owns which block is in doubt",
    ),
    row(
        "multipath_path_failed",
        DEVICE_RESET,
        rf"device-mapper: multipath: (?:\d+:\d+: )?Failing path {NUMBER}",
        "drivers/md/dm-mpath.c fail_path",
        "one way to the device is lost",
    ),
    row(
        "multipath_no_path",
        IO_ERROR,
        rf"device-mapper: multipath: queue_if_no_path timeout on {NUMBER}, failing queued IO",
        "drivers/md/dm-mpath.c queue_if_no_path_timeout_work",
        "no way to the device is left, and waiting requests fail",
    ),
    row(
        "mirror_dead",
        DATA_LOSS,
        r"device-mapper: raid1: (?:All sides of mirror have failed|All replicated volumes dead, failing I/O)",
        "drivers/md/dm-raid1.c; the line names no device",
        "no copy is left",
    ),
    row(
        "snapshot_lost",
        DATA_LOSS,
        r"device-mapper: snapshots: (?:Invalidating snapshot: |Snapshot overflowed: )",
        "drivers/md/dm-snap.c __invalidate_snapshot; the line names no device",
        "the snapshot is gone, and a backup made from it is torn",
    ),
    row(
        "integrity_failed",
        IO_ERROR,
        rf"device-mapper: (?:crypt|integrity): {DEV}: (?:INTEGRITY AEAD ERROR, sector|Checksum failed at sector) ",
        "drivers/md/dm-crypt.c, dm-integrity.c",
        "what was read is not what was written",
    ),
    row(
        "nbd_lost",
        DEVICE_RESET,
        r"block (?P<dev>nbd\d+): (?:Connection timed out|Dead connection, failed to find a fallback)",
        "drivers/block/nbd.c nbd_xmit_timeout, find_fallback",
        "the server behind the device does not answer",
    ),
)

_NODE_ROWS = (
    row(
        "hung_task",
        KernelEvent.HUNG_TASK,
        r"INFO: task (?P<process>.+:\d+) blocked(?: in I/O wait)? for more than \d+ seconds",
        "kernel/hung_task.c check_hung_task",
        "a task waits for minutes, usually for a device",
    ),
    row(
        "oom_kill",
        KernelEvent.OOM_KILL,
        r"(?:(?:Memory cgroup out of memory|Out of memory(?: \(oom_kill_allocating_task\))?): )?"
        r"Killed process (?P<process>\d+ \(.+?\))[, ]",
        "mm/oom_kill.c __oom_kill_process",
        "a process was killed in the middle of whatever it did",
    ),
    row(
        "vm_fork",
        KernelEvent.VM_FORK,
        r"random: crng reseeded due to virtual machine fork",
        "drivers/char/random.c add_vmfork_randomness",
        "the hypervisor gave this machine a new generation: it runs from a copy",
    ),
)

DEVICE_ROWS = (*_BLOCK_ROWS, *_SCSI_ROWS, *_NVME_ROWS, *_LAYERED_ROWS, *_NODE_ROWS)
