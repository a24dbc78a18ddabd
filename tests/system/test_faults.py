"""Real faults of real filesystems, from the kernel to the page and back: the right alert, in words an operator can use.

Two collectors hear of the same faults, each from an agent of its own. One has the shipped rules as they are; the other
the same conditions in a hurry, because a shipped rule may wait half an hour before it pages, and minutes before it
says that all is well.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import needs
from tests.receiver import Receiver
from tests.rigs.failing_disk import FailingDisk
from tests.rigs.loop_disk import LoopDisk
from tests.system.stack import Stack, hurried_rules, matching, notices, webhook

pytestmark = pytest.mark.system

NODE = "vm-1"
RECENT = "10s"
"""What counts as recent for the collector in a hurry; an hour as shipped."""


TRUE_OF_ANY_TEST_DISK = {"MountNotConfigured"}
"""It is mounted by hand, and no fstab has it."""


class Watcher(NamedTuple):
    """A stack and who is told by it."""

    stack: Stack
    hook: Receiver

    def sees(self, mountpoint: Path) -> None:
        """Until the collector knows the volume, and that it takes writes."""
        self.stack.wait(
            lambda: self.stack.collector.facts(NODE, "volume", str(mountpoint)).get("writable"),
            f"{mountpoint} to be known",
        )

    def told(self, alertname: str, resource: str, but: str = "") -> dict[str, Any]:
        """The page about the resource, as the webhook got it. `but` is the key of an older one."""
        wanted = {"alertname": alertname, "resource": resource, "status": "firing"}
        found = self.stack.wait(
            lambda: [page for page in notices(self.hook, **wanted) if page["key"] != but],
            f"{alertname} about {resource} to reach the webhook",
            60.0,
        )
        return found[-1]

    def told_of_the_end(self, page: dict[str, Any]) -> None:
        """Until the webhook has heard that it is over."""
        self.stack.wait(
            lambda: notices(self.hook, key=page["key"], status="resolved"),
            f"the end of {page['alertname']} about {page['resource']} to reach the webhook",
            90.0,
        )

    def active(self, resource: str) -> list[dict[str, Any]]:
        """Pending and firing alerts about the resource that would ask a person to act."""
        shown = matching(self.stack.collector.alerts(), {"resource": resource})
        return [
            alert
            for alert in shown
            if alert["state"] != "resolved"
            and alert["severity"] != "info"
            and alert["alertname"] not in TRUE_OF_ANY_TEST_DISK
        ]

    def waiting(self, resource: str, alertnames: set[str]) -> bool:
        """Until exactly these alerts about the resource are pending, and none fires."""
        wanted = dict.fromkeys(alertnames, "pending")
        return self.stack.wait(
            lambda: {alert["alertname"]: alert["state"] for alert in self.active(resource)} == wanted,
            f"{alertnames} about {resource} to be pending",
        )

    def kept_quiet(self, alertname: str, resource: str, by: str) -> dict[str, Any]:
        """The alert about the resource, once it fires and is explained by another. Not for who is in a hurry: there the
        kernel's line explains for `RECENT` only, and nobody knows that one looks in time."""
        wanted = {"alertname": alertname, "resource": resource, "inhibited_by": by}
        return self.stack.wait(
            lambda: self.stack.collector.firing(**wanted),
            f"{alertname} about {resource} to be explained by {by}",
            60.0,
        )[-1]

    def over(self, alertname: str, resource: str) -> None:
        """Until the alert about the resource has gone, whether people were told of it or not."""
        self.stack.wait(
            lambda: not matching(self.active(resource), {"alertname": alertname}),
            f"{alertname} about {resource} to be over",
            60.0,
        )

    def told_of_the_end_once_noted(self, page: dict[str, Any]) -> None:
        """As an operator: take note, and hear that it is over."""
        self.stack.collector.post("/api/v1/acks", {"key": page["key"], "reason": "mended"})
        self.told_of_the_end(page)

    def pages_about(self, resource: str) -> list[tuple[str, str]]:
        """(alert, status) of all pages about it, once nothing about it is pending or fires any more."""
        self.stack.wait(lambda: not self.active(resource), f"{resource} to be well", 60.0)
        pages = notices(self.hook, resource=resource, severity="page")
        return [(page["alertname"], page["status"]) for page in pages]


class Watched(NamedTuple):
    shipped: Watcher
    hurried: Watcher

    def see(self, mountpoint: Path) -> None:
        self.shipped.sees(mountpoint)
        self.hurried.sees(mountpoint)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Both collectors, with their agents at work."""
    needs.root()
    needs.condition(os.access("/dev/kmsg", os.R_OK), "needs the kernel log (/dev/kmsg)")
    folder = tmp_path_factory.mktemp("faults")
    rules = hurried_rules(folder / "rules", window=RECENT)
    with ExitStack() as held:
        watchers = []
        for name in ("shipped", "hurried"):
            hook = held.enter_context(Receiver())
            in_force = None if name == "shipped" else rules
            stack = Stack(
                folder / name, receivers=[webhook(hook)], rules=in_force, shipped_rules=in_force is None
            )
            held.enter_context(stack)
            tables = ['[probes.volumes]\nperiod = "1s"', '[probes.devices]\nunidentified = "D2"']
            stack.agent(NODE, tables=tables).start()
            watchers.append(Watcher(stack, hook))
        for watcher in watchers:
            watcher.stack.wait_reported(NODE, "volumes")
        _heard_the_past(watchers, folder)
        yield Watched(*watchers)


def _heard_the_past(watchers: list[Watcher], folder: Path) -> None:
    """Until both agents are through with what the kernel log held before, which may be minutes of others' faults: what the
    kernel says of a test's disk would come after them, and so after what the volume shows by itself."""
    with LoopDisk(folder, "ext4", mount_options="errors=remount-ro") as disk:
        disk.trigger_ext4_error()
        for watcher in watchers:
            watcher.told("KernelReportsDataLoss", disk.name)


def labels(alertname: str, rule_id: str, mountpoint: Path) -> dict[str, str]:
    """Those of a page about a volume."""
    return {
        "alertname": alertname,
        "severity": "page",
        "node": NODE,
        "resource_kind": "volume",
        "resource": str(mountpoint),
        "rule_id": rule_id,
    }


def test_ext4_in_emergency_read_only_pages_and_clears_after_fsck(watched: Watched, tmp_path: Path) -> None:
    """It still says `rw`, and statvfs agrees: what watches free space and mount options sees nothing. One page, about the
    disk, which the state of the volume is a part of."""
    with LoopDisk(tmp_path, "ext4", mount_options="errors=remount-ro") as disk:
        volume = str(disk.mountpoint)
        watched.see(disk.mountpoint)
        disk.trigger_ext4_error()
        pages = [watcher.told("KernelReportsDataLoss", disk.name) for watcher in watched]
        dead = watched.shipped.kept_quiet("VolumeDead", volume, "KernelReportsDataLoss")
        disk.repair()
        watched.hurried.told_of_the_end_once_noted(pages[1])
        watched.hurried.over("VolumeDead", volume)

        assert dead["annotations"]["summary"] == f"{NODE}: the filesystem on {volume} has shut down"
        assert dead["annotations"]["description"].startswith(f"ext4 on {disk.device}: the filesystem ")
        assert "read-only" in dead["annotations"]["description"]
        assert notices(watched.shipped.hook, resource=volume, severity="page") == []
        assert watched.hurried.pages_about(disk.name) == [
            ("KernelReportsDataLoss", "firing"),
            ("KernelReportsDataLoss", "resolved"),
        ]


def test_xfs_that_shut_down_pages_and_clears_after_a_new_mount(watched: Watched, tmp_path: Path) -> None:
    """Mount options and statvfs show nothing of it, for ever."""
    with LoopDisk(tmp_path, "xfs") as disk:
        volume = str(disk.mountpoint)
        watched.see(disk.mountpoint)
        disk.shut_down()
        pages = [watcher.told("KernelReportsDataLoss", disk.name) for watcher in watched]
        dead = watched.shipped.kept_quiet("VolumeDead", volume, "KernelReportsDataLoss")
        disk.repair()
        watched.hurried.told_of_the_end_once_noted(pages[1])
        watched.hurried.over("VolumeDead", volume)

        assert dead["annotations"]["summary"] == f"{NODE}: the filesystem on {volume} has shut down"
        assert dead["annotations"]["description"].startswith(f"xfs on {disk.device}: ")
        assert notices(watched.shipped.hook, resource=volume, severity="page") == []
        assert watched.hurried.pages_about(disk.name) == [
            ("KernelReportsDataLoss", "firing"),
            ("KernelReportsDataLoss", "resolved"),
        ]


def test_volume_that_was_remounted_read_only_pages_until_it_takes_writes(
    watched: Watched, tmp_path: Path
) -> None:
    with LoopDisk(tmp_path, "ext4") as disk:
        volume = str(disk.mountpoint)
        watched.see(disk.mountpoint)
        disk.remount("ro")
        pages = [watcher.told("VolumeNotWritable", volume) for watcher in watched]
        disk.remount("rw")
        watched.hurried.told_of_the_end(pages[1])

        for page in pages:
            assert page["labels"] == labels("VolumeNotWritable", "R-06a", disk.mountpoint)
            assert page["annotations"]["summary"] == (
                f"{NODE}: {volume} does not accept writes (the filesystem is mounted read-only)"
            )
        assert watched.hurried.pages_about(volume) == [
            ("VolumeNotWritable", "firing"),
            ("VolumeNotWritable", "resolved"),
        ]


def test_full_filesystem_pages_once_and_clears_when_there_is_room(watched: Watched, tmp_path: Path) -> None:
    """Three rules hold of a full volume, and people hear of the worst."""
    with LoopDisk(tmp_path, "ext4") as disk:
        volume = str(disk.mountpoint)
        watched.see(disk.mountpoint)
        disk.fill()
        page = watched.hurried.told("VolumeFull", volume)
        watched.shipped.waiting(volume, {"VolumeFull", "VolumeAlmostFull", "VolumeSpaceLow"})
        (disk.mountpoint / "filler").unlink()
        watched.hurried.told_of_the_end(page)

        assert page["labels"] == labels("VolumeFull", "R-31b", disk.mountpoint)
        assert page["annotations"]["summary"] == f"{NODE}: {volume} is full"
        assert page["annotations"]["description"].startswith("0 B of ")
        assert watched.hurried.pages_about(volume) == [
            ("VolumeFull", "firing"),
            ("VolumeFull", "resolved"),
        ]


def test_filesystem_without_inodes_pages_once_and_clears_when_files_go(
    watched: Watched, tmp_path: Path
) -> None:
    """There is room, and yet no file can be made. Three rules hold, and people hear of the worst."""
    with LoopDisk(tmp_path, "ext4", mkfs=("-N", "64")) as disk:
        volume = str(disk.mountpoint)
        watched.see(disk.mountpoint)
        disk.use_all_inodes()
        page = watched.hurried.told("VolumeInodesOut", volume)
        watched.shipped.waiting(volume, {"VolumeInodesOut", "VolumeInodesAlmostOut", "VolumeInodesLow"})
        for empty in disk.mountpoint.glob("empty-*"):
            empty.unlink()
        watched.hurried.told_of_the_end(page)

        assert page["labels"] == labels("VolumeInodesOut", "R-31n", disk.mountpoint)
        assert page["annotations"]["summary"] == f"{NODE}: {volume} has no inode left"
        assert watched.hurried.pages_about(volume) == [
            ("VolumeInodesOut", "firing"),
            ("VolumeInodesOut", "resolved"),
        ]


def test_disk_that_loses_data_pages_until_somebody_answers_for_it(watched: Watched, tmp_path: Path) -> None:
    """The kernel says it once. A new mount brings the volume back; what was lost stays an open question."""
    with FailingDisk(tmp_path, "ext4", mount_options="errors=remount-ro") as disk:
        volume = str(disk.mountpoint)
        watched.see(disk.mountpoint)
        before = _settled(watched.hurried, disk.name)
        disk.lose_data()
        loss = watched.hurried.told("KernelReportsDataLoss", disk.name, but=before)
        told_before_the_journal_failed = notices(watched.hurried.hook, resource=volume)
        disk.fail_journal()
        watched.shipped.told("KernelReportsDataLoss", disk.name)
        death = watched.shipped.kept_quiet("VolumeDead", volume, "KernelReportsDataLoss")
        told_of_the_volume = notices(watched.shipped.hook, resource=volume, severity="page")
        disk.repair()
        _wait_for_clear(watched.hurried, loss["key"])
        open_question = watched.hurried.active(disk.name)
        watched.hurried.stack.collector.post(
            "/api/v1/acks", {"key": loss["key"], "reason": "restored the file from last night's backup"}
        )
        watched.hurried.told_of_the_end(loss)

        # Until then ext4 goes on taking writes, and nothing but the kernel's one line shows that data is gone.
        assert told_before_the_journal_failed == []
        assert (loss["severity"], loss["resource_kind"], loss["rule_id"]) == ("page", "device", "R-24")
        summary = loss["annotations"]["summary"]
        assert summary.startswith(f"{NODE}: data did not reach {disk.name}: ")
        assert disk.name in summary.removeprefix(f"{NODE}: data did not reach {disk.name}: ")
        assert death["annotations"]["description"].startswith(f"ext4 on {disk.device}: ")
        assert told_of_the_volume == []
        assert [
            alert["key"] for alert in matching(open_question, {"alertname": "KernelReportsDataLoss"})
        ] == [loss["key"]]
        # What lasts longer than the memory of the kernel's line, which is short here, is told after all; nothing else is.
        assert {name for name, _ in watched.hurried.pages_about(volume)} <= {
            "VolumeDead",
            "FilesystemErrors",
            "FilesystemDamaged",
        }


def _settled(watcher: Watcher, device: str) -> str:
    """Answer for what the kernel said before of a device of this name; the key of that, empty when there is none.

    Loop devices are used again and again, and their names are all that the kernel log has.
    """
    old = matching(watcher.active(device), {"alertname": "KernelReportsDataLoss"})
    if not old:
        return ""
    key: str = old[0]["key"]
    watcher.stack.collector.post("/api/v1/acks", {"key": key, "reason": "another test's disk"})
    watcher.stack.wait(lambda: not watcher.active(device), f"{device} to be nobody's concern", 90.0)
    return key


def _wait_for_clear(watcher: Watcher, key: str) -> None:
    """Until the alert's condition has passed; the alert itself may stay."""
    watcher.stack.wait(
        lambda: any(alert["last_finding"] == "clear" for alert in watcher.stack.collector.alerts(key=key)),
        f"{key} to be clear",
        60.0,
    )
