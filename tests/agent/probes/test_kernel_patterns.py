"""The kernel's words: each format that its sources can print, and the benign lines that look alike.

The lines are built from the format strings of Linux 4.14 to 6.18 (and of OpenZFS 2.x), filled in as seen in real logs.
"""

import pytest

from holdfast_agent.probes.kernel_pattern import UNNAMED, KernelEvent
from holdfast_agent.probes.kernel_patterns import PATTERNS, device_begun, meaning_of
from holdfast_wire.fact import EVENT_TYPES

LOSS, DAMAGE, IO, RESET, RECOVERY = (
    KernelEvent.DATA_LOSS,
    KernelEvent.FILESYSTEM_ERROR,
    KernelEvent.IO_ERROR,
    KernelEvent.DEVICE_RESET,
    KernelEvent.RECOVERY,
)

TELLING = [
    # ext4 and its journal
    (LOSS, "sda1", "EXT4-fs warning (device sda1): ext4_end_bio:343: I/O error 10 writing to inode 12 starting block 33024)"),
    (LOSS, "dm-0", "EXT4-fs warning (device dm-0): ext4_end_bio:314: I/O error -28 writing to inode 139 (offset 0 size 1048576 starting block 34304)"),
    (LOSS, "vdb", "EXT4-fs (vdb): Delayed block allocation failed for inode 12 at logical offset 0 with max blocks 5 with error 28"),
    (LOSS, "vdb", "EXT4-fs (vdb): This should not happen!! Data will be lost\n"),
    (LOSS, "sda1", "EXT4-fs (sda1): failed to convert unwritten extents to written extents -- potential data loss!  (inode 13, error -5)"),
    (LOSS, "sda1", "EXT4-fs (sda1): error restoring inline_data for inode -- potential data loss! (inode 17, error -28)"),
    (LOSS, "loop0", "EXT4-fs (loop0): previous I/O error to superblock detected"),
    (LOSS, "loop0", "EXT4-fs (loop0): I/O error while writing superblock"),
    (LOSS, "nvme0n1p2", "EXT4-fs (nvme0n1p2): Remounting filesystem read-only"),
    (LOSS, "loop7", "EXT4-fs (loop7): shut down requested (1)"),
    (LOSS, "loop0", "EXT4-fs error (device loop0): ext4_journal_check_start:83: comm sh: Detected aborted journal"),
    (DAMAGE, "loop0", "EXT4-fs error (device loop0): trigger_test_error:129: comm bash: x"),
    (DAMAGE, "sda1", "EXT4-fs error (device sda1): ext4_lookup:1785: inode #2: comm ls: iget: bad extra_isize 9489 (inode size 256)"),
    (DAMAGE, "sda1", "EXT4-fs error (device sda1): ext4_validate_block_bitmap:390: comm kworker/u8:2: bg 1: bad block bitmap checksum"),
    (DAMAGE, "sda1", "EXT4-fs error (device sda1) in ext4_reserve_inode_write:5764: IO failure"),
    (DAMAGE, "sda1", "EXT4-fs (sda1): warning: mounting fs with errors, running e2fsck is recommended"),
    (DAMAGE, "sda1", "EXT4-fs (sda1): error loading journal"),
    (DAMAGE, "sdb1", "EXT2-fs (sdb1): error: ext2_lookup: deleted inode referenced: 30"),
    (RECOVERY, "vda", "EXT4-fs (vda): recovery complete"),
    (RECOVERY, "vda", "EXT4-fs (vda): warning: mounting unchecked fs, running e2fsck is recommended"),
    (LOSS, "sda1", "Aborting journal on device sda1-8."),
    (LOSS, "dm-0", "Aborting journal on device dm-0-8."),
    (LOSS, "sdc", "Aborting journal on device sdc."),
    (LOSS, "loop0", "JBD2: I/O error when updating journal superblock for loop0-8."),
    (LOSS, "loop0", "JBD2: Error -5 detected when updating journal superblock for loop0-8."),
    (LOSS, "loop0", "JBD2: previous I/O error detected for journal superblock update for loop0-8."),
    (LOSS, "sda1", "JBD2: Detected IO errors while flushing file data on sda1-8"),
    (DAMAGE, "sda1", "JBD2: journal transaction 2011 on sda1-8 is corrupt."),
    # XFS
    (LOSS, "dm-2", "XFS (dm-2): Log I/O Error (0x2) detected at xlog_ioend_work+0x6e/0x70 [xfs] (fs/xfs/xfs_log.c:1378).  Shutting down filesystem."),
    (LOSS, "sdb", "XFS (sdb): Metadata I/O Error (0x1) detected at xfs_trans_read_buf_map+0x1a8/0x310 [xfs] (fs/xfs/xfs_trans_buf.c:296).  Shutting down filesystem."),
    (LOSS, "sdb1", "XFS (sdb1): Corruption of in-memory data detected.  Shutting down filesystem"),
    (LOSS, "loop2", "XFS (loop2): User initiated shutdown received."),
    (LOSS, "loop2", "XFS (loop2): Filesystem has been shut down due to log error (0x2)."),
    (LOSS, "loop2", "XFS (loop2): log I/O error -5"),
    (LOSS, "sdb1", 'XFS (sdb1): page discard on page 00000000d2b62c1e, inode 0x83, pos 0.'),
    (IO, "sdb1", 'XFS (sdb1): metadata I/O error in "xfs_buf_ioend+0x21f/0x4d0 [xfs]" at daddr 0x2 len 1 error 5'),
    (IO, "sdb1", "XFS (sdb1): Failing async write on buffer block 0x77c8. Retrying async write."),
    (DAMAGE, "sdb1", "XFS (sdb1): Metadata CRC error detected at xfs_agf_read_verify+0xd0/0xf0 [xfs], xfs_agf block 0x1"),
    (DAMAGE, "sdb1", "XFS (sdb1): Metadata corruption detected at xfs_dinode_verify.part.0+0x44e/0x5b0 [xfs], inode 0x80 dinode"),
    (DAMAGE, "sdb1", "XFS (sdb1): Internal error i != 1 at line 2120 of file fs/xfs/libxfs/xfs_alloc.c.  Caller xfs_free_extent+0x1"),
    (DAMAGE, "sdb1", "XFS (sdb1): Corruption warning: Metadata has LSN (5:1) ahead of current LSN (1:10). Please unmount and run xfs_repair (>= v4.3) to resolve."),
    (DAMAGE, "sdb1", "XFS (sdb1): log mount/recovery failed: error -117"),
    (RECOVERY, "dm-2", "XFS (dm-2): Starting recovery (logdev: internal)"),
    (LOSS, "dm-2", "dm-2: writeback error on inode 131, offset 0, sector 88"),
    # btrfs, which logs losses as warnings and information
    (LOSS, "sdb", "BTRFS info (device sdb): forced readonly"),
    (LOSS, "sdb", "BTRFS info (device sdb state EA): forced readonly"),
    (LOSS, "sdb", "BTRFS: error (device sdb: state EA) in btrfs_run_delayed_refs:2149: errno=-5 IO failure"),
    (LOSS, "sdb", "BTRFS: error (device sdb state A) in btrfs_finish_ordered_io:3124: errno=-28 No space left"),
    (LOSS, "sdb", "BTRFS warning (device sdb): lost page write due to IO error on /dev/sdb (-5)"),
    (LOSS, "sdb", "BTRFS warning (device sdb): lost super block write due to IO error on /dev/sdb (-5)"),
    (LOSS, "sdb", "BTRFS error (device sdb): error writing primary super block to device 1"),
    (LOSS, "sdb", "BTRFS error (device sdb state EA): 1 errors while writing supers"),
    (DAMAGE, "sdb", "BTRFS warning (device sdb): csum failed root 5 ino 257 off 0 csum 0x98f94189 expected csum 0x3b3c5f6e mirror 1"),
    (DAMAGE, "sdb", "BTRFS error (device sdb): parent transid verify failed on logical 30490624 mirror 1 wanted 9 found 7"),
    (DAMAGE, "sdb", "BTRFS warning (device sdb): checksum verify failed on logical 30490624 mirror 1 wanted 0x1 found 0x2 level 0"),
    (DAMAGE, "sdb", "BTRFS critical (device sdb): corrupt leaf: root=5 block=30588928 slot=6 ino=258, invalid inode generation"),
    (DAMAGE, "sdb", "BTRFS critical (device sdb): unable to find chunk map for logical 1104150528 length 4096"),
    (DAMAGE, "sdb", "BTRFS warning (device sdb): devid 2 uuid 3a1e7f0c-57c5-4bb5-8d0f-4ed1a0a3b0fd is missing"),
    (RECOVERY, "sdb", "BTRFS info (device sdb): start tree-log replay"),
    # others
    (LOSS, "sda3", "F2FS-fs (sda3): Stopped filesystem due to reason: 0"),
    (LOSS, "tank", "WARNING: Pool 'tank' has encountered an uncorrectable I/O failure and has been suspended.\n"),
    # block layer
    (LOSS, "sdb1", "Buffer I/O error on dev sdb1, logical block 131072, lost async page write"),
    (LOSS, "sdb1", "Buffer I/O error on dev sdb1, logical block 0, lost sync page write"),
    (LOSS, "vdb", "Buffer I/O error on device vdb, logical block 34304"),
    (LOSS, "sda1", "lost page write due to I/O error on sda1"),
    (IO, "vdb", "Buffer I/O error on dev vdb, logical block 9, async page read"),
    (IO, "sda", "blk_update_request: critical medium error, dev sda, sector 4660"),
    (IO, "sda", "print_req_error: I/O error, dev sda, sector 61440"),
    (IO, "sda", "end_request: I/O error, dev sda, sector 61440"),
    (IO, "vda", "I/O error, dev vda, sector 264192 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2"),
    (IO, "loop0", "I/O error, dev loop0, sector 0 op 0x1:(WRITE) flags 0x800 phys_seg 0 prio class 0"),
    (IO, "dm-4", "blk_update_request: critical space allocation error, dev dm-4, sector 8 op 0x1:(WRITE) flags 0x0 phys_seg 1 prio class 0"),
    (IO, "sdc", "device offline error, dev sdc, sector 2048 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2"),
    (IO, "loop3", "kworker/u4:1: attempt to access beyond end of device\nloop3: rw=2049, sector=4096, nr_sectors = 8 limit=2048"),
    # SCSI, ATA
    (RESET, "sda", "sd 2:0:0:0: [sda] tag#17 FAILED Result: hostbyte=DID_TIME_OUT driverbyte=DRIVER_OK cmd_age=30s"),
    (RESET, "sda", "sd 2:0:0:0: [sda] tag#17 timing out command, waited 180s"),
    (RESET, "sdb", "sd 0:0:1:0: [sdb] tag#3 abort"),
    (RESET, "0:0:1:0", "sd 0:0:1:0: device reset"),
    (RESET, "0:0:1:0", "sd 0:0:1:0: attempting task abort!scmd(0x00000000a1b2c3d4), outstanding for 30212 ms & timeout 30000 ms"),
    (IO, "2:0:0:0", "sd 2:0:0:0: Device offlined - not ready after error recovery"),
    (IO, "2:0:0:0", "sd 2:0:0:0: rejecting I/O to offline device"),
    (IO, "sdb", "sd 2:0:0:0: [sdb] Medium access timeout failure. Offlining disk!"),
    (IO, "ata1.00", "ata1.00: failed command: WRITE FPDMA QUEUED"),
    (LOSS, "ata1.00", "ata1.00: FLUSH failed Emask 0x4"),
    (IO, "ata1.00", "ata1.00: disable device"),
    (RESET, "ata1", "ata1: hard resetting link"),
    # NVMe
    (RESET, "nvme0", "nvme nvme0: I/O 171 QID 3 timeout, aborting"),
    (RESET, "nvme0", "nvme nvme0: I/O 12 (I/O Cmd) QID 3 timeout, aborting"),
    (RESET, "nvme0", "nvme nvme0: I/O tag 12 (100c) opcode 0x1 (I/O Cmd) QID 3 timeout, aborting req_op:WRITE(1) size:4096"),
    (RESET, "nvme0", "nvme nvme0: I/O 24 QID 0 timeout, reset controller"),
    (RESET, "nvme1", "nvme nvme1: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0x10"),
    (RESET, "nvme1", "nvme nvme1: Device not ready; aborting reset, CSTS=0x1"),
    (RESET, "nvme1", "nvme nvme1: resetting controller due to AER"),
    (IO, "nvme1", "nvme nvme1: Disabling device after reset failure: -19"),
    (IO, "nvme1", "nvme nvme1: Removing after probe failure status: -19"),
    (IO, "nvme0n1", "nvme0n1: Write(0x1) @ LBA 1953792, 8 blocks, Write Fault (sct 0x2 / sc 0x80) DNR "),
    # md, device-mapper, nbd, swap
    (IO, "sdb1", "md/raid1:md0: Disk failure on sdb1, disabling device.\nmd/raid1:md0: Operation continuing on 1 devices.\n"),
    (LOSS, "md0", "md/raid:md0: Cannot continue operation (2/3 failed)."),
    (IO, "md0", "md/raid1:md0: sdb1: unrecoverable I/O read error for block 2048"),
    (IO, "md127", "md/raid:md127: read error not correctable (sector 2048 on sdc1)."),
    (IO, UNNAMED, "md: super_written gets error=-5"),
    (LOSS, "253:4", "device-mapper: thin: 253:4: switching pool to out-of-data-space (queue IO) mode"),
    (LOSS, "253:4", "device-mapper: thin: 253:4: switching pool to read-only mode"),
    (DAMAGE, "253:4", "device-mapper: thin: 253:4: metadata operation 'dm_pool_commit_metadata' failed: error = -5"),
    (RESET, "8:32", "device-mapper: multipath: 253:3: Failing path 8:32."),
    (IO, "253:3", "device-mapper: multipath: queue_if_no_path timeout on 253:3, failing queued IO"),
    (LOSS, UNNAMED, "device-mapper: raid1: All replicated volumes dead, failing I/O"),
    (LOSS, UNNAMED, "device-mapper: snapshots: Invalidating snapshot: Unable to allocate exception."),
    (IO, "sdb2", "device-mapper: crypt: sdb2: INTEGRITY AEAD ERROR, sector 2048"),
    (IO, "dm-1", "device-mapper: integrity: dm-1: Checksum failed at sector 0x1f40"),
    (RESET, "nbd0", "block nbd0: Connection timed out"),
    (IO, "8:16", "Write-error on swap-device (8:16:2048)"),
    # the machine itself
    (KernelEvent.HUNG_TASK, "", "INFO: task kworker/u4:1:123 blocked for more than 120 seconds."),
    (KernelEvent.HUNG_TASK, "", "INFO: task mysqld:4211 blocked in I/O wait for more than 122 seconds."),
    (KernelEvent.OOM_KILL, "", "Out of memory: Killed process 1234 (mysqld) total-vm:8123456kB, anon-rss:812kB, file-rss:0kB, shmem-rss:0kB, UID:112 pgtables:2088kB oom_score_adj:0"),
    (KernelEvent.OOM_KILL, "", "Memory cgroup out of memory: Killed process 77 (python3) total-vm:123456kB, anon-rss:65536kB, file-rss:0kB"),
    (KernelEvent.OOM_KILL, "", "Killed process 77 (java) total-vm:123456kB, anon-rss:65536kB, file-rss:0kB, shmem-rss:0kB"),
    (KernelEvent.VM_FORK, "", "random: crng reseeded due to virtual machine fork"),
]  # fmt: skip

NODES = [
    ("/dev/sdb", "BTRFS error (device sda): bdev /dev/sdb errs: wr 3, rd 0, flush 1, corrupt 0, gen 0"),
    ("/dev/disk/by-id/wwn-0x5000-part1", "zio pool=tank vdev=/dev/disk/by-id/wwn-0x5000-part1 error=5 type=2 offset=0 size=4096 flags=180880"),
]  # fmt: skip

BENIGN = [
    "EXT4-fs (vda): mounted filesystem 00000000-0000-0000-0000-000000000000 r/w with ordered data mode. Quota mode: none.",
    "EXT4-fs (vda): re-mounted 7f0c r/w. Quota mode: none.",
    "EXT4-fs (sda1): unmounting filesystem 7f0c.",
    "EXT4-fs (sda1): error count since last fsck: 3",
    "EXT4-fs (sda1): initial error at time 1700000000: trigger_test_error:129",
    "EXT4-fs (sda1): warning: checktime reached, running e2fsck is recommended",
    "EXT4-fs (sda1): INFO: recovery required on readonly filesystem",
    "EXT4-fs (sda1): orphan cleanup on readonly fs",
    "EXT4-fs warning (device sda1): ext4_dx_add_entry:2519: Directory (ino: 2) index full, reach max htree level :2",
    "EXT4-fs (sdz9): couldn't mount as ext3 due to feature incompatibilities",
    "XFS (dm-0): Mounting V5 Filesystem 4fbf0d8e-1f6e-4fbd-b3a5-2d1c7e14d1a0",
    "XFS (dm-0): Ending clean mount",
    "XFS (dm-0): Ending recovery (logdev: internal)",
    "XFS (dm-0): Please unmount the filesystem and rectify the problem(s)",
    "XFS (dm-0): EXPERIMENTAL online scrub feature in use. Use at your own risk!",
    "BTRFS info (device sdb): bdev /dev/sdb errs: wr 3, rd 0, flush 1, corrupt 0, gen 0",
    "BTRFS info (device sdb): using crc32c (crc32c-intel) checksum algorithm",
    "BTRFS warning (device sdb): excessive commit interval 3600, use with care",
    "BTRFS error (device sdb): remounting read-write after error is not allowed",
    "BTRFS error (device sdb): balance: invalid convert data profile raid5",
    "BTRFS error: unrecognized mount option 'errors'",
    "nvme nvme0: Shutdown timeout set to 10 seconds",
    "nvme nvme0: 4/0/0 default/read/poll queues",
    "nvme nvme0: allocated 64 MiB host memory buffer.",
    "nvme nvme0: missing or invalid SUBNQN field.",
    "nvme nvme0: resetting controller",
    "nvme0: Identify(0x6), Invalid Field in Command (sct 0x0 / sc 0x2) MORE DNR ",
    "nvme0n1: Dataset Management(0x9) @ LBA 0, 1024 blocks, Invalid Command Opcode (sct 0x0 / sc 0x1) DNR ",
    "blk_update_request: I/O error, dev sr0, sector 0 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 0",
    "Buffer I/O error on dev sr0, logical block 0, async page read",
    "blk_update_request: I/O error, dev fd0, sector 0 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0",
    "print_req_error: I/O error, dev loop3, sector 0",
    "I/O error, dev loop3, sector 0 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2",
    "blk_update_request: critical target error, dev sda, sector 2048 op 0x3:(DISCARD) flags 0x800 phys_seg 1 prio class 0",
    "operation not supported error, dev vdb, sector 8 op 0x9:(WRITE_ZEROES) flags 0x800 phys_seg 0 prio class 2",
    "blk_update_request: operation not supported error, dev loop0, sector 0 op 0x9:(WRITE_ZEROES) flags 0x8000800",
    "loop3: detected capacity change from 0 to 131072",
    "squashfs: version 4.0 (2009/01/31) Phillip Lougher",
    "systemd-udevd: attempt to access beyond end of device\nsdb: rw=0, sector=7814037160, nr_sectors = 8 limit=7814037168",
    "sd 6:0:0:0: [sdb] Synchronizing SCSI cache",
    "sd 6:0:0:0: [sdb] Synchronize Cache(10) failed: Result: hostbyte=DID_ERROR driverbyte=DRIVER_OK",
    "usb 1-1.2: USB disconnect, device number 7",
    "usb 1-1.2: reset high-speed USB device number 7 using xhci_hcd",
    "sd 2:0:0:0: [sda] Write cache: disabled, read cache: enabled, doesn't support DPO or FUA",
    "sd 2:0:0:0: [sda] Assuming drive cache: write through",
    "sd 2:0:0:0: Power-on or device reset occurred",
    "sd 2:0:0:0: [sda] tag#17 FAILED Result: hostbyte=DID_OK driverbyte=DRIVER_OK cmd_age=0s",
    "hv_storvsc f8b3781b-1e82-4818-a1c3-63d806ec15bb: tag#227 cmd 0x85 status: scsi 0x2 srb 0x6 hv 0xc0000001",
    "ata1: SATA link up 6.0 Gbps (SStatus 133 SControl 300)",
    "ata2.00: failed command: IDENTIFY PACKET DEVICE",
    "ata1.00: Enabling discard_zeroes_data",
    "md/raid1:md0: active with 2 out of 2 mirrors",
    "md/raid1:md0: not clean -- starting background reconstruction",
    "md: md0: data-check done.",
    "device-mapper: thin: 253:4: switching pool to write mode",
    "device-mapper: thin: 253:4: reached low water mark for data device: sending event.",
    "device-mapper: multipath: 253:3: Reinstating path 8:32.",
    "device-mapper: uevent: version 1.0.3",
    "virtio_blk virtio1: [vda] 536870912 512-byte logical blocks (275 GB/256 GiB)",
    "zio pool=tank vdev=/dev/sdb1 error=95 type=6 offset=0 size=4096 flags=180880",
    "oom_reaper: reaped process 1234 (mysqld), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
    "mysqld invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO), order=0, oom_score_adj=0",
    "INFO: task kworker/u4:1:123 is blocked on a mutex likely owned by task a:7.",
    "random: crng init done",
    "Journal: EXT4-fs (vda): Remounting filesystem read-only",
    "audit: type=1400 audit(1700000000.000:1): comm=\"Out of memory: Killed process 1 (init)\"",
]  # fmt: skip


@pytest.mark.parametrize(("type_", "device", "line"), TELLING)
def test_a_line_of_the_kernel_gets_its_type_and_device(type_: KernelEvent, device: str, line: str) -> None:
    meaning = meaning_of(line)

    assert meaning is not None
    assert (meaning.pattern.type, meaning.device) == (type_, device), meaning.pattern.name


@pytest.mark.parametrize(("path", "line"), NODES)
def test_a_device_named_by_its_path_keeps_it_for_the_probe_to_resolve(path: str, line: str) -> None:
    meaning = meaning_of(line)

    assert meaning is not None
    assert (meaning.pattern.type, meaning.kind, meaning.device) == (IO, "node", path)


@pytest.mark.parametrize("line", BENIGN)
def test_a_benign_twin_says_nothing(line: str) -> None:
    assert meaning_of(line) is None


def test_every_row_is_shown_by_a_line() -> None:
    """A row no line reaches is dead, or hidden behind a broader one that stands before it."""
    reached = {meaning.pattern.name for _, _, line in TELLING if (meaning := meaning_of(line))}
    reached |= {meaning.pattern.name for _, line in NODES if (meaning := meaning_of(line))}

    assert reached == {pattern.name for pattern in PATTERNS}


def test_every_type_is_a_declared_event_of_its_kind_of_resource() -> None:
    for pattern in PATTERNS:
        node_wide = pattern.type in {KernelEvent.HUNG_TASK, KernelEvent.OOM_KILL, KernelEvent.VM_FORK}

        assert EVENT_TYPES[pattern.type].resource.value == ("node" if node_wide else "device")


def test_a_row_carries_its_source_and_its_reason() -> None:
    assert [p.name for p in PATTERNS if not p.source or not p.because] == []


@pytest.mark.parametrize(
    ("line", "device"),
    [
        ("EXT4-fs (vda): mounted filesystem with ordered data mode. Opts: (null)", "vda"),
        ("EXT4-fs (loop0): unmounting filesystem 7f0c.", "loop0"),
        ("XFS (dm-0): Mounting V5 Filesystem", "dm-0"),
        ("XFS (dm-0): Unmounting Filesystem 4fbf0d8e", "dm-0"),
        ("EXT4-fs (vda): Remounting filesystem read-only", None),
    ],
)
def test_a_mount_begins_a_filesystem_anew(line: str, device: str | None) -> None:
    assert device_begun(line) == device
