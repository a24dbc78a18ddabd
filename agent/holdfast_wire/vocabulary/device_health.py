"""What is said of a block device's health: RAID, LVM, caches, SMART and NVMe, paths.

Each fact is there only where it means something: a disk has no RAID level, a RAID no temperature.
"""

from holdfast_wire.declaration import BOOL, FLOAT, INT, STR, Fact, Origin, ResourceKind, facts

_RAID = [
    ("raid_level", STR, "", "", "The RAID level: raid1, raid5, …; of md or of LVM."),
    ("raid_state", STR, "", "", "md's array_state: clean, active, inactive, broken, read-auto, …"),
    ("raid_running", BOOL, "", "m", "The array serves requests; false for one that is inactive or broken."),
    ("raid_disks", INT, "", "", "Members the array is meant to have."),
    ("raid_missing_disks", INT, "", "m", "Members the array lacks."),
    ("raid_recovering", BOOL, "", "m", "A replacement is being filled: what is missing is coming back."),
    (
        "raid_action",
        STR,
        "",
        "",
        "What the array does besides: idle, resync, recover, check, repair, reshape, frozen.",
    ),
    ("raid_sync_ratio", FLOAT, "ratio", "m", "How far that has come; absent when there is nothing to do."),
    ("raid_mismatches", INT, "", "m", "Sectors that the newest check found to differ between members."),
    ("raid_parity", BOOL, "", "", "The level keeps parity (4, 5, 6), which must never mismatch."),
    (
        "raid_write_hole",
        BOOL,
        "",
        "m",
        "A crash during a write can corrupt a stripe that was not being written.",
    ),
    ("raid_members", STR, "", "", "The members and the state of each, in words."),
]
_LVM = [
    ("lv_name", STR, "", "l", "The logical volume: group/volume."),
    ("lv_type", STR, "", "", "Its segment type: linear, raid1, thin-pool, cache, …"),
    ("lv_health", STR, "", "", "What LVM finds wrong with it, in its words; empty when nothing."),
    ("thin_data_ratio", FLOAT, "ratio", "m", "How full a thin pool is."),
    ("thin_metadata_ratio", FLOAT, "ratio", "m", "How full a thin pool's metadata is."),
    ("thin_when_full", STR, "", "", "What a full thin pool does to writes: error, or queue for a minute."),
    ("snapshot_ratio", FLOAT, "ratio", "m", "How full a snapshot is; full, it is invalid."),
    ("dm_name", STR, "", "", "The device's name in /dev/mapper."),
    ("dm_suspended", BOOL, "", "m", "device-mapper holds all requests back."),
    ("dm_targets", STR, "", "", "What a mapped device is made of: linear, crypt, thin, writecache, …"),
    ("dm_faulty_target", STR, "", "", "Those that fail, forget or delay on purpose: error, zero, flakey, dust, delay; empty without."),
    ("dm_writecache_failed", BOOL, "", "m", "A dm-writecache met an error, and fails all requests since."),
    ("cache_mode", STR, "", "", "How a cache in front of the device writes: writethrough, writeback, writearound, …"),
    ("cache_state", STR, "", "", "bcache's state: no cache, clean, dirty, inconsistent."),
    ("cache_dirty_bytes", INT, "bytes", "m", "Written data that only the cache device holds."),
    ("cache_device", STR, "", "", "The devices the cache lives on."),
    ("cache_temporary", BOOL, "", "", "The cache lives on a disk that does not survive a redeploy."),
]  # fmt: skip
_WRITE_CACHE = [
    ("write_cache", STR, "", "", "What the kernel believes: write back (it sends flushes) or write through (none)."),
    ("write_cache_claimed", STR, "", "", "What a SCSI device said of itself when it was found."),
    ("fua", BOOL, "", "", "The kernel may order single writes to the medium (forced unit access), which only a disk with a volatile cache gets."),
    ("drive_cache_enabled", BOOL, "", "", "The ATA drive says that its volatile write cache is on."),
]  # fmt: skip
_SMART = [
    ("smart_available", BOOL, "", "m", "The device has a health record; virtual disks have none."),
    ("smart_unavailable_reason", STR, "", "", "Why there is none, or why it could not be read."),
    ("smart_passed", BOOL, "", "m", "The device's own overall verdict."),
    ("smart_failing", BOOL, "", "m", "Its verdict is bad; of an NVMe: one of the critical warnings 2, 3 and 4 is set."),
    ("smart_failing_reason", STR, "", "", "Which of them, in words; empty when none."),
    ("smart_reallocated_sectors", INT, "", "m", "Attribute 5."),
    ("smart_reported_uncorrectable", INT, "", "m", "Attribute 187."),
    ("smart_command_timeouts", INT, "", "m", "Attribute 188, where its raw value is a plain count."),
    ("smart_pending_sectors", INT, "", "m", "Attribute 197: sectors that could not be read."),
    ("smart_offline_uncorrectable", INT, "", "m", "Attribute 198."),
    ("smart_bad_attributes", INT, "", "", "How many of the five above are not 0."),
    ("smart_media_errors", INT, "", "m", "NVMe: reads and writes whose data could not be recovered."),
    ("smart_new_errors", INT, "", "m", "Growth of 187, 197, 198 and media errors in the last seven days, or since first seen."),
    ("smart_logged_errors", INT, "", "m", "Errors in an ATA disk's own log since it was made, of its cable and of refused commands, too."),
    ("smart_new_logged_errors", INT, "", "m", "Growth of these in the last seven days, or since first seen."),
    ("nvme_spare_low", BOOL, "", "m", "Critical warning bit 0: spare blocks are below the threshold."),
    ("nvme_too_hot", BOOL, "", "m", "Bit 1: the temperature is out of bounds."),
    ("nvme_reliability_degraded", BOOL, "", "m", "Bit 2: too many media errors, or an internal fault."),
    ("nvme_media_read_only", BOOL, "", "m", "Bit 3: the medium takes no more writes."),
    ("nvme_backup_failed", BOOL, "", "m", "Bit 4: the volatile memory's backup failed: no protection from power loss."),
    ("wear_ratio", FLOAT, "ratio", "m", "The share of its rated life that an SSD has used; may exceed 1."),
    ("unsafe_shutdowns_total", INT, "", "c", "Times the device lost power without being told."),
    ("power_on_seconds", INT, "seconds", "m", "How long the device has been in use."),
    ("temperature_celsius", INT, "celsius", "m", "The device's temperature."),
]  # fmt: skip
_PATHS = [
    ("multipath_name", STR, "", "l", "The multipath map's name."),
    ("paths", INT, "", "", "Paths the map has now."),
    ("paths_expected", INT, "", "m", "The most paths the map has had in this boot."),
    ("paths_active", INT, "", "m", "Paths that work."),
    ("paths_failed", STR, "", "", "The paths that do not, by name."),
    ("queues_without_path", BOOL, "", "", "Without a path requests wait for ever; else they fail."),
    ("multipath_member", BOOL, "", "", "The device is one path of a multipath map."),
    ("scsi_state", STR, "", "", "The kernel's state of a SCSI device: running, offline, blocked, transport-offline, …"),
    ("iscsi_state", STR, "", "", "The iSCSI session's state: LOGGED_IN, FAILED, FREE."),
    ("iscsi_logged_in", BOOL, "", "m", "The iSCSI session below the device stands."),
    ("iscsi_target", STR, "", "", "The target's name."),
    ("iscsi_recovery_seconds", INT, "seconds", "", "How long requests wait for a lost session before they fail."),
]  # fmt: skip

HEALTH: list[Fact] = facts(
    ResourceKind.DEVICE, Origin.AGENT, [*_RAID, *_LVM, *_WRITE_CACHE, *_SMART, *_PATHS]
)
