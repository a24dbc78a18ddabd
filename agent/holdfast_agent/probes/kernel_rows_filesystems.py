"""The lines of filesystems and their journals."""

from holdfast_agent.probes.kernel_pattern import DATA_LOSS, DEV, FILESYSTEM_ERROR, IO_ERROR, RECOVERY, row

_EXT4 = rf"EXT4-fs \({DEV}\): "
_XFS = rf"XFS \({DEV}\): "
# Since 5.18 the state letters follow; the colon before them went in 6.7.
_STATE = r"(?::? state \w+)?"
_BTRFS = rf"BTRFS (?:emergency|alert|critical|error|warning) \(device {DEV}{_STATE}\): "
# j_devname is the device, "-" and the journal's inode number; an external journal has no inode.
_JOURNAL = r"(?P<dev>[\w!-]+?)(?:-\d+)?"

_EXT4_ROWS = (
    row(
        "ext4_write_failed",
        DATA_LOSS,
        rf"EXT4-fs warning \(device {DEV}\): ext4_end_bio:\d+: I/O error -?\d+ writing to inode ",
        "fs/ext4/page-io.c ext4_end_bio",
        "a page that write(2) had accepted did not reach the disk; logged as a warning, no counter moves",
    ),
    row(
        "ext4_allocation_lost",
        DATA_LOSS,
        rf"{_EXT4}(?:Delayed block allocation failed for inode |This should not happen!! Data will be lost)",
        "fs/ext4/inode.c mpage_map_and_submit_extent",
        "no block could be found for data accepted long ago",
    ),
    row(
        "ext4_potential_loss",
        DATA_LOSS,
        rf"{_EXT4}.* -- potential data loss!",
        "fs/ext4/page-io.c ext4_end_io_end, fs/ext4/inline.c",
        "extents stay unwritten: the file reads as zeroes",
    ),
    row(
        "ext4_superblock_write_failed",
        DATA_LOSS,
        rf"{_EXT4}(?:previous I/O error to superblock detected|I/O error while writing superblock)",
        "fs/ext4/super.c ext4_commit_super",
        "the superblock did not reach the disk",
    ),
    row(
        "ext4_read_only",
        DATA_LOSS,
        rf"{_EXT4}Remounting filesystem read-only",
        "fs/ext4/super.c ext4_handle_error",
        "the filesystem refuses writes from now on, whatever its mount options show",
        gives_up=True,
    ),
    row(
        "ext4_shutdown",
        DATA_LOSS,
        rf"{_EXT4}shut down requested \(\d\)",
        "fs/ext4/ioctl.c ext4_force_shutdown",
        "everything not yet on disk is gone",
        gives_up=True,
    ),
    row(
        "ext4_aborted",
        DATA_LOSS,
        rf"EXT4-fs error \(device {DEV}\): ext4_journal_check_start:\d+: comm .*: Detected aborted journal",
        "fs/ext4/ext4_jbd2.c ext4_journal_check_start",
        "the journal is dead, so nothing can be written",
    ),
    row(
        "ext4_error",
        FILESYSTEM_ERROR,
        rf"EXT4-fs error \(device {DEV}\)(?:: | in )",
        "fs/ext4/super.c __ext4_error, __ext4_error_inode, __ext4_error_file, __ext4_std_error",
        "the filesystem's structures contradict each other or could not be written",
    ),
    row(
        "ext4_mounted_with_errors",
        FILESYSTEM_ERROR,
        rf"{_EXT4}warning: mounting fs with errors, running e2fsck is recommended",
        "fs/ext4/super.c ext4_setup_super",
        "errors of an earlier mount were never repaired",
    ),
    row(
        "ext4_journal_unusable",
        FILESYSTEM_ERROR,
        rf"{_EXT4}error loading journal",
        "fs/ext4/super.c ext4_load_journal",
        "what the journal held cannot be replayed",
    ),
    row(
        "ext4_recovered",
        RECOVERY,
        rf"{_EXT4}recovery complete",
        "fs/ext4/super.c ext4_fill_super",
        "the journal was replayed: there was no clean unmount",
    ),
    row(
        "ext4_unchecked",
        RECOVERY,
        rf"{_EXT4}warning: mounting unchecked fs, running e2fsck is recommended",
        "fs/ext4/super.c ext4_setup_super",
        "without a journal, the missing clean flag is the only trace of an unclean unmount",
    ),
    row(
        "ext2_error",
        FILESYSTEM_ERROR,
        rf"EXT[23]-fs (?:\({DEV}\): error: |error \(device (?P<node>\S+?)\): )",
        "fs/ext2/super.c ext2_error, fs/ext3 (before 4.3)",
        "the filesystem's structures contradict each other",
    ),
)

_JBD2_ROWS = (
    row(
        "journal_aborted",
        DATA_LOSS,
        rf"Aborting journal on device {_JOURNAL}\.",
        "fs/jbd2/journal.c jbd2_journal_abort",
        "transactions since the last commit are lost, and no more are taken",
    ),
    row(
        "journal_superblock_write_failed",
        DATA_LOSS,
        r"JBD2: (?:Error -?\d+ detected when updating|I/O error when updating|previous I/O error detected for) "
        rf"journal superblock (?:update )?for {_JOURNAL}\.",
        "fs/jbd2/journal.c jbd2_write_superblock",
        "the journal cannot be kept",
    ),
    row(
        "journal_data_flush_failed",
        DATA_LOSS,
        rf"JBD2: Detected IO errors while flushing file data on {_JOURNAL}$",
        "fs/jbd2/commit.c jbd2_journal_commit_transaction (before 6.4)",
        "file data that a transaction promised did not reach the disk",
    ),
    row(
        "journal_corrupt",
        FILESYSTEM_ERROR,
        rf"JBD2: journal transaction \d+ on {_JOURNAL} is corrupt\.",
        "fs/jbd2/journal.c jbd2_journal_load",
        "the journal cannot be replayed in full",
    ),
)

_XFS_ROWS = (
    row(
        "xfs_shutdown",
        DATA_LOSS,
        rf"{_XFS}.*(?:Shutting down filesystem|Filesystem has been shut down due to log error)",
        "fs/xfs/xfs_fsops.c xfs_do_force_shutdown, fs/xfs/xfs_log.c xlog_force_shutdown",
        "every operation fails from now on while the mount still looks rw",
        gives_up=True,
    ),
    row(
        "xfs_shutdown_requested",
        DATA_LOSS,
        rf"{_XFS}User initiated shutdown received",
        "fs/xfs/xfs_fsops.c xfs_do_force_shutdown",
        "somebody shut it down: what was not on disk is gone",
        gives_up=True,
    ),
    row(
        "xfs_log_write_failed",
        DATA_LOSS,
        rf"{_XFS}log I/O error -?\d+",
        "fs/xfs/xfs_log.c xlog_ioend_work",
        "the log could not be written",
    ),
    row(
        "xfs_page_discarded",
        DATA_LOSS,
        rf"{_XFS}page discard (?:on page|on inode|unable to remove)",
        "fs/xfs/xfs_aops.c xfs_discard_folio",
        "accepted data was thrown away because no block could be had for it",
    ),
    row(
        "xfs_metadata_io",
        IO_ERROR,
        rf"{_XFS}(?:metadata I/O error|Failing async write on buffer block|log recovery \w+ I/O error)",
        "fs/xfs/xfs_buf.c xfs_buf_ioerror_alert, xfs_buf_item.c (before 5.9), xfs_log_recover.c",
        "reading or writing metadata failed; XFS tries again, for ever by default",
    ),
    row(
        "xfs_damaged",
        FILESYSTEM_ERROR,
        rf"{_XFS}(?:Metadata (?:corruption|CRC error) detected|Internal error |Corruption (?:detected|warning)|"
        r"log record CRC mismatch|corrupted root inode|\S+: detected corrupt incore inode|"
        r"log mount/recovery failed|Failed to recover intents|Failed to read root inode)",
        "fs/xfs/xfs_error.c, xfs_log.c, xfs_log_recover.c, xfs_mount.c, xfs_inode.c",
        "structures on disk or in memory are damaged",
    ),
    row(
        "xfs_recovered",
        RECOVERY,
        rf"{_XFS}Starting recovery \(logdev: ",
        "fs/xfs/xfs_log_recover.c xlog_recover",
        "the log was not empty: there was no clean unmount",
    ),
    row(
        "iomap_write_failed",
        DATA_LOSS,
        rf"{DEV}: writeback error on inode \d+, offset \d+, sector \d+",
        "fs/iomap/buffered-io.c iomap_finish_ioend (XFS and others)",
        "a page that write(2) had accepted did not reach the disk",
    ),
)

_BTRFS_ROWS = (
    row(
        "btrfs_forced_read_only",
        DATA_LOSS,
        rf"BTRFS info \(device {DEV}{_STATE}\): forced readonly",
        "fs/btrfs/messages.c __btrfs_handle_fs_error",
        "the filesystem refuses writes from now on; logged as information only",
    ),
    row(
        "btrfs_gave_up",
        DATA_LOSS,
        rf"BTRFS: error \(device {DEV}{_STATE}\) in \w+:\d+: errno=-?\d+ ",
        "fs/btrfs/messages.c __btrfs_handle_fs_error",
        "a transaction was aborted",
    ),
    row(
        "btrfs_lost_write",
        DATA_LOSS,
        rf"{_BTRFS}(?:lost (?:page|super block) write due to IO error on |error writing primary super block|"
        r"\d+ errors while writing supers)",
        "fs/btrfs/disk-io.c btrfs_end_super_write, write_all_supers",
        "a write was lost; logged as a warning",
    ),
    row(
        "btrfs_device_errors",
        IO_ERROR,
        rf"BTRFS error \(device [\w!-]+{_STATE}\): bdev (?P<node>\S+) errs: wr ",
        "fs/btrfs/volumes.c btrfs_dev_stat_inc_and_print",
        "requests to one of its devices failed; the same line at level info only repeats counters at mount",
    ),
    row(
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
    row(
        "btrfs_critical",
        FILESYSTEM_ERROR,
        rf"BTRFS (?:emergency|alert|critical) \(device {DEV}{_STATE}\): ",
        "fs/btrfs/messages.c _btrfs_printk, level critical and above",
        "btrfs keeps these levels for damage",
    ),
    row(
        "btrfs_recovered",
        RECOVERY,
        rf"BTRFS info \(device {DEV}{_STATE}\): start tree-log replay",
        "fs/btrfs/disk-io.c open_ctree",
        "a log tree was left: there was no clean unmount",
    ),
)

_OTHER_FILESYSTEM_ROWS = (
    row(
        "f2fs_stopped",
        DATA_LOSS,
        rf"F2FS-fs \({DEV}\): Stopped filesystem due to reason: \d+",
        "fs/f2fs/super.c f2fs_handle_critical_error",
        "the filesystem refuses writes from now on",
    ),
    row(
        "zfs_suspended",
        DATA_LOSS,
        r"WARNING: Pool '(?P<dev>[^']+)' has encountered an uncorrectable I/O failure and has been suspended",
        "OpenZFS module/zfs/zio.c zio_suspend",
        "nothing reaches the pool until it is cleared",
    ),
    row(
        "zfs_request_failed",
        IO_ERROR,
        r"zio pool=\S+ vdev=(?P<node>\S+) error=\d+ type=[12] ",
        "OpenZFS module/os/linux/zfs/vdev_disk.c vdev_disk_error; type 1 reads, 2 writes",
        "a request to a device of the pool failed",
    ),
)

FILESYSTEM_ROWS = (*_EXT4_ROWS, *_JBD2_ROWS, *_XFS_ROWS, *_BTRFS_ROWS, *_OTHER_FILESYSTEM_ROWS)
