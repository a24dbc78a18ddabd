"""State on every kind of filesystem and under every fault of it, at once on one machine: the list in one place.

A real systemd has a service for each place and for each fault, with its state on filesystems of this kernel; the real
agent runs on that machine, and a collector judges in a hurry. `PLACES` says what must be said while all is as it was
set up, `FAULTS` what must be found, named and cleared when something happens under a running service.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import needs
from tests.receiver import Receiver
from tests.rigs.systemd_box import SystemdBox
from tests.system.keepers import Keepers
from tests.system.place_watch import NODE, Fault, Place, Seen, Watch
from tests.system.stack import Stack, hurried_rules, matching, webhook

pytestmark = pytest.mark.system

RECENT = "10s"
"""What counts as recent; an hour as shipped."""
LOST_AT_A_CRASH = ("StateOnVolatileMedium", "not_durable")
PLACES = {
    "ext4": Place("/srv/ext4/state", "/srv/ext4", "ext4", 2, disk="ext4"),
    "ext4-on-a-disk-of-the-host": Place("/srv/local/state", "/srv/local", "ext4", 1, *LOST_AT_A_CRASH, disk="local"),
    "xfs": Place("/srv/xfs/state", "/srv/xfs", "xfs", 2, disk="xfs"),
    "btrfs": Place("/srv/btrfs/state", "/srv/btrfs", "btrfs", 2, disk="btrfs"),
    "btrfs-subvolume": Place("/srv/btrfs/inner", "/srv/btrfs", "btrfs", 2, disk="btrfs"),
    "btrfs-subvolume-mounted": Place("/srv/subvolume/state", "/srv/btrfs", "btrfs", 2, disk="btrfs"),
    "overlay": Place("/srv/overlay/state", "/srv/overlay", "overlay", 2),
    "overlay-volatile": Place(
        "/srv/volatile/state", "/srv/volatile", "overlay", 0, *LOST_AT_A_CRASH, syncs_ignored=True
    ),
    "overlay-in-memory": Place("/srv/live/state", "/srv/live", "overlay", 0, *LOST_AT_A_CRASH, volatile=True),
    "tmpfs": Place("/srv/memory/state", "/srv/memory", "tmpfs", 0, *LOST_AT_A_CRASH, volatile=True),
    "bind-of-ext4": Place("/srv/bound/state", "/srv/ext4", "ext4", 2, disk="ext4"),
    "bind-of-tmpfs": Place("/srv/bound-memory/state", "/srv/memory", "tmpfs", 0, *LOST_AT_A_CRASH, volatile=True),
    "declared-by-the-unit": Place(
        "/var/lib/keeper", "/srv/local", "ext4", 1, "StateOnPoorMedium", "not_durable", disk="local", source="systemd", confidence="medium"
    ),
    "declared-by-the-operator": Place("/srv/xfs/keys", "/srv/xfs", "xfs", 2, disk="xfs", role="keys", source="declared"),
    "written-to-and-unexplained": Place(
        "/srv/local", "/srv/local", "ext4", 1, "StateUnexplained", "unknown", disk="local", source="open files", confidence="low"
    ),
}  # fmt: skip
"""Case → its place. The service is `keeper-CASE.service`."""
MOUNTS = """
mkdir -p /srv/{overlay,volatile,live,memory,bound,bound-memory,subvolume} /srv/ext4/{lower,upper,work,upper2,work2,bound}
mkdir -p /var/lib/keeper /srv/local/{keeper,spool} /srv/xfs/keys
btrfs -q subvolume create /srv/btrfs/inner
btrfs -q subvolume create /srv/btrfs/other
mount -o subvol=other "$(findmnt -no SOURCE /srv/btrfs)" /srv/subvolume
mount -t tmpfs -o size=16M tmpfs /srv/memory
mkdir -p /srv/memory/{upper,work,bound}
mount -t overlay -o lowerdir=/srv/ext4/lower,upperdir=/srv/ext4/upper,workdir=/srv/ext4/work overlay /srv/overlay
mount -t overlay -o lowerdir=/srv/ext4/lower,upperdir=/srv/ext4/upper2,workdir=/srv/ext4/work2,volatile overlay /srv/volatile
mount -t overlay -o lowerdir=/srv/ext4/lower,upperdir=/srv/memory/upper,workdir=/srv/memory/work overlay /srv/live
mount --bind /srv/ext4/bound /srv/bound
mount --bind /srv/memory/bound /srv/bound-memory
mount --bind /srv/local/keeper /var/lib/keeper
"""
PLAIN = {
    "declared-by-the-unit": "StateDirectory=keeper\nExecStart=/bin/sleep infinity",
    "declared-by-the-operator": "ExecStart=/bin/sleep infinity",
    "written-to-and-unexplained": "ExecStart=/bin/sh -c 'exec 3>>/srv/local/spool/journal; exec sleep infinity'",
}
"""Services that are no engine; all others are a Redis."""


def _start_beneath(keepers: Keepers, case: str) -> None:
    """The mount goes, and the service is started anew: on the folder that was beneath."""
    keepers.lose_mount(case)
    keepers.restart(case)
    assert keepers.say(case, "SET a b") == b"+OK\r\n"


def _leave_beneath(keepers: Keepers, case: str) -> None:
    _start_beneath(keepers, case)
    keepers.mount(case)


def _tidy(keepers: Keepers, case: str) -> None:
    keepers.mount(case, beneath=f"rm -r /srv/{case}/state/*")


def _delete_open(keepers: Keepers, case: str) -> None:
    keepers.sh(f"rm /srv/{case}/state/appendonlydir/*.incr.aof")
    assert keepers.say(case, "SET a b") == b"+OK\r\n"


def _delete_empties(keepers: Keepers, case: str) -> None:
    for empty in keepers.disks[case].mountpoint.glob("empty-*"):
        empty.unlink()


def _cut(keepers: Keepers, case: str) -> None:
    image = keepers.disks[case].image
    os.truncate(image, image.stat().st_size // 2)


def _uncut(keepers: Keepers, case: str) -> None:
    image = keepers.disks[case].image
    os.truncate(image, image.stat().st_size * 2)
    keepers.mount(case, check=True)


def _fail(keepers: Keepers, case: str) -> None:
    """The service asks for what it wrote to be on disk, and dies of the answer."""
    keepers.failing[case].fail()
    assert keepers.say(case, "SET a b") == b""
    keepers.failing[case].fail_journal()


def _work(keepers: Keepers, case: str) -> None:
    keepers.failing[case].work()
    keepers.mount(case, check=True)


FAULTS = {
    "mount-lost": Fault(
        lambda keepers, case: keepers.lose_mount(case),
        lambda keepers, case: keepers.mount(case),
        "volume", "missing_under_state", bool,
        "StateVolumeMissing", "nothing is mounted on /srv/{case}, where the state of keeper-{case}.service (data",
    ),
    "written-beneath-the-mountpoint": Fault(
        _start_beneath, _tidy,
        "volume", "missing_under_state", bool,
        "StateVolumeMissing", "nothing is mounted on /srv/{case}, where the state of keeper-{case}.service (data",
        careless=True,
    ),
    "left-beneath-the-mount": Fault(
        _leave_beneath, _tidy,
        "volume", "stranded_bytes", bool,
        "StrandedData", "326 B of data lie hidden beneath the mount on /srv/{case}",
        careless=True,
    ),
    "deleted-while-open": Fault(
        _delete_open,
        lambda keepers, case: keepers.say(case, "BGREWRITEAOF"),
        "state_path", "deleted_open_bytes", bool,
        "StateDeletedWhileOpen", "keeper-{case}.service writes to files that were deleted (50 B of its wal)",
        path="/srv/{case}/state/appendonlydir",
    ),
    "eatmydata": Fault(
        lambda keepers, case: keepers.restart(case, environment="LD_PRELOAD=libeatmydata.so"),
        lambda keepers, case: keepers.restart(case),
        "service", "syncs_disabled", bool,
        "ServiceSyncsDisabled", "keeper-{case}.service runs so that fsync does nothing (libeatmydata.so.1.3.0)",
        verdict="not_durable",
    ),
    "disk-full": Fault(
        lambda keepers, case: keepers.disks[case].fill(),
        lambda keepers, case: keepers.sh(f"rm /srv/{case}/filler"),
        "volume", "free_bytes", lambda free: free == 0,
        "VolumeFull", "/srv/{case} is full",
    ),
    "no-inode-left": Fault(
        lambda keepers, case: keepers.disks[case].use_all_inodes(), _delete_empties,
        "volume", "inodes_free", lambda free: free == 0,
        "VolumeInodesOut", "/srv/{case} has no inode left",
    ),
    "backing-file-cut": Fault(
        _cut, _uncut,
        "device", "backing_missing_bytes", bool,
        "BackingFileCut", "the file behind {device} lacks 32.0 MiB",
        verdict="not_durable",
    ),
    "disk-answers-eio": Fault(
        _fail, _work,
        "volume", "dead", bool,
        "KernelReportsDataLoss", "data did not reach {device}: ", about="device", answered=True,
    ),
}  # fmt: skip
"""Case → its fault. Disk, mountpoint and service go by the case's name."""


def _arranged(keepers: Keepers) -> None:
    """Everything mounted and running."""
    for case, fault in FAULTS.items():
        if fault.careless:
            keepers.sh(f"mkdir -p /srv/{case}/state")  # beneath the mount
        if case == "disk-answers-eio":
            keepers.failing_disk(case)
        else:
            keepers.disk(case, mkfs=("-N", "64") if case == "no-inode-left" else ())
        keepers.redis(case, f"/srv/{case}/state", careless=fault.careless)
    for name in ("ext4", "xfs", "btrfs"):
        keepers.disk(name, name)
    keepers.disk("local", level="D1")
    keepers.sh(MOUNTS)
    for case, place in PLACES.items():
        if case in PLAIN:
            keepers.unit(case, PLAIN[case], f"RequiresMountsFor={place.folder}")
        else:
            keepers.redis(case, place.folder)
    keepers.start()


def _tables(keepers: Keepers) -> list[str]:
    """The agent's configuration: it looks often, and knows what an operator would have told it."""
    declared = PLACES["declared-by-the-operator"]
    classes = ", ".join(f'"{device}" = "{level}"' for device, level in keepers.classes.items())
    return [
        '[probes.volumes]\nperiod = "1s"',
        f'[probes.devices]\nperiod = "1s"\nclasses = {{{classes}}}',
        '[probes.loop_backing]\nperiod = "1s"',
        '[probes.stranded_data]\nperiod = "2s"',
        '[probes.state_paths]\nperiod = "2s"',
        '[[probes.state_paths.declare]]\nservice = "keeper-declared-by-the-operator.service"',
        f'path = "{declared.folder}"\nrole = "{declared.role}"',
    ]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """All places, then all faults at once, then all of them mended."""
    needs.root()
    needs.tool("eatmydata", package="eatmydata")
    needs.condition(os.access("/dev/kmsg", os.R_OK), "needs the kernel log (/dev/kmsg)")
    folder: Path = tmp_path_factory.mktemp("places")
    rules = hurried_rules(folder / "rules", window=RECENT)
    with ExitStack() as held:
        hook = held.enter_context(Receiver())
        stack = held.enter_context(
            Stack(folder / "stack", receivers=[webhook(hook)], rules=rules, shipped_rules=False)
        )
        box = held.enter_context(SystemdBox(folder))
        box.show_kernel_log()
        keepers = held.enter_context(Keepers(box, folder))
        _arranged(keepers)
        agent = stack.agent(NODE, tables=_tables(keepers), wrap=box.running)
        box.share(agent.config)
        agent.start()
        held.callback(agent.close)
        yield Watch(stack, hook, keepers, PLACES, FAULTS).played()


@pytest.mark.parametrize("case", PLACES)
def test_state_is_told_with_the_path_the_mount_and_the_filesystem_it_ends_on(seen: Seen, case: str) -> None:
    """Found by what the engine itself says, by the unit, by the operator, or by what is open for writing."""
    place = PLACES[case]
    facts = seen.view.facts("state_path", f"keeper-{case}.service:{place.folder}")

    assert {name: facts.get(name) for name in (
        "service", "path", "mountpoint", "fstype", "device", "volatile", "syncs_ignored", "role", "source", "confidence",
    )} == {
        "service": f"keeper-{case}.service",
        "path": place.folder,
        "mountpoint": place.volume,
        "fstype": place.fstype,
        "device": seen.devices.get(place.disk, ""),
        "volatile": place.volatile,
        "syncs_ignored": place.syncs_ignored,
        "role": place.role,
        "source": place.source,
        "confidence": place.confidence,
    }  # fmt: skip


@pytest.mark.parametrize("case", PLACES)
def test_state_is_judged_by_what_its_medium_survives(seen: Seen, case: str) -> None:
    """Data need class D2. What is less is told in the pack's words, and the service is as good as its state."""
    place = PLACES[case]
    name = f"keeper-{case}.service:{place.folder}"
    facts = seen.view.facts("state_path", name)
    about = [alert for alert in matching(seen.alerts, {"resource": name}) if not alert["inhibited_by"]]

    assert (facts["required_class"], seen.view.facts("volume", place.volume)["durability_class"]) == (
        2,
        place.level,
    )
    assert {alert["alertname"] for alert in about} == ({place.alert} if place.alert else set())
    assert seen.view.verdict("state_path", name) == place.verdict
    assert seen.view.verdict("service", f"keeper-{case}.service") == place.verdict


@pytest.mark.parametrize("case", FAULTS)
def test_fault_under_a_running_service_is_found(seen: Seen, case: str) -> None:
    """In the facts; and the service is not called durable while it lasts."""
    fault, outcome = FAULTS[case], seen.outcomes[case]

    assert [fault.present(value) for value in outcome.values[:2]] == [False, True]
    assert outcome.verdicts[1] == fault.verdict


@pytest.mark.parametrize("case", FAULTS)
def test_fault_under_a_running_service_is_named(seen: Seen, case: str) -> None:
    """By the pack's rule, about the right resource, in words to act on."""
    fault, outcome = FAULTS[case], seen.outcomes[case]
    said = fault.summary.format(case=case, device=seen.devices[case])

    assert [notice["status"] for notice in outcome.told[:1]] == ["firing"]
    assert outcome.told[0]["annotations"]["summary"].startswith(f"{NODE}: {said}")


@pytest.mark.parametrize("case", FAULTS)
def test_fault_that_was_mended_is_cleared(seen: Seen, case: str) -> None:
    """Told once to be over, gone from the facts, and the service as good as before."""
    fault, outcome = FAULTS[case], seen.outcomes[case]

    assert [notice["status"] for notice in outcome.told] == ["firing", "resolved"]
    assert not fault.present(outcome.values[2])
    assert outcome.verdicts[2] == outcome.verdicts[0]
