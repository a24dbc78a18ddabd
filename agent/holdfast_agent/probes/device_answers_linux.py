"""What programs with root's rights say of devices: `lvs`, `dmsetup` and `smartctl`.

The agent has no such rights. `holdfast-devices.service` runs the programs instead (`holdfast-agent ask-devices`) and
leaves their answers in its runtime directory, one file per program, for the agent to read. An agent that root runs –
`holdfast-agent doctor`, a first look – asks by itself where there is no fresh answer.

The answers are kept as the programs gave them; what they mean is the probes' business.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from holdfast_agent.errors import Denied, Unsupported
from holdfast_agent.probe import ProbeContext, boot_clock
from holdfast_agent.probes.sysfs_linux import names_in

FOLDER = Path("run/holdfast-devices")
"""Below the root of the filesystem; as RuntimeDirectory= of the unit says."""
PERIOD_SECONDS = 300.0
"""As OnUnitActiveSec= of the timer says. `lvs` contends for locks when it runs every few seconds (catalogue A-42)."""
SMART_PERIOD_SECONDS = 3600.0
"""SMART changes slowly, and asking wakes some disks' electronics (A-45: once an hour)."""
_ANSWER_SECONDS = 30.0
_OUTPUT_BYTES_MAX = 1_000_000
# Debian keeps them in sbin, which is not on every user's PATH.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_LV_FIELDS = (
    "vg_name,lv_name,lv_kernel_minor,lv_attr,segtype,data_percent,metadata_percent,lv_health_status,lv_when_full,"
    "cache_mode,cache_dirty_blocks,chunk_size,raid_sync_action,raid_mismatch_count,copy_percent,lv_snapshot_invalid,"
    "pool_lv,devices"
)
# Without locks: to report needs none, and a hung lock holder would take us along.
LVS = (
    "lvs", "-a", "--nolocking", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", _LV_FIELDS,
)  # fmt: skip
# Without `--noflush` the question would make a thin pool commit (dmsetup(8)).
MAPPER = ("dmsetup", "status", "--noflush")
# A disk that sleeps is left asleep; its last answer stays.
# The log of errors only of ATA and SCSI disks: an NVMe's counts commands that it does not know, too.
SMARTCTL_LOG = ("-l", "error")
SMARTCTL = ("smartctl", "--json", "-n", "standby", "-i", "-H", "-A", "-g", "wcache")


class Answer(Struct, frozen=True, kw_only=True):
    """What one program said to one question."""

    status: int
    """Its exit status; -1 when it did not answer in time or could not be started."""
    output: str = ""
    error: str = ""
    """What it wrote to standard error, or why there is no answer."""
    asked: float
    """Seconds since boot."""


Answers = dict[str, Answer]
"""Kernel name of the device, or the program's own when the question was about all → answer."""


def smart_disks(sysfs: Path) -> list[str]:
    """The disks that may keep a health record: SCSI, SATA, NVMe. virtio, Xen and mapped ones cannot."""
    found = [*names_in(sysfs / "block", "sd*"), *names_in(sysfs / "block", "hd*")]
    return [*found, *(name for name in names_in(sysfs / "block", "nvme*n*") if "c" not in name)]


def ask(arguments: tuple[str, ...], seconds: float = _ANSWER_SECONDS) -> Answer:
    """Run one program and wait for its answer. One that hangs in the kernel cannot be ended and is left behind."""
    asked = boot_clock()
    program = shutil.which(arguments[0], path=_PATH)
    if program is None:
        return Answer(status=-1, error=f"{arguments[0]} is not installed", asked=asked)
    try:
        child = subprocess.Popen(
            [program, *arguments[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # lvs complains of descriptors that are not its own.
            env={"LC_ALL": "C", "PATH": _PATH, "LVM_SUPPRESS_FD_WARNINGS": "1"},
        )
    except OSError as error:
        return Answer(status=-1, error=f"{program}: {error.strerror}", asked=asked)
    try:
        output, said = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        return Answer(status=-1, error=f"{arguments[0]} did not answer within {seconds:g} s", asked=asked)
    return Answer(
        status=child.returncode,
        output=output[:_OUTPUT_BYTES_MAX].decode("utf-8", "replace"),
        error=said.decode("utf-8", "replace").strip()[:1000],
        asked=asked,
    )


def ask_lvm(before: Answers) -> Answers:
    """`lvs`, of all volumes."""
    return {"lvs": ask(LVS)}


def ask_mapper(before: Answers, sysfs: Path = Path("/sys")) -> Answers:
    """`dmsetup status`; not where nothing is mapped, for the question alone would load device-mapper."""
    if not names_in(sysfs / "block", "dm-*"):
        return {"status": Answer(status=0, asked=boot_clock())}
    return {"status": ask(MAPPER)}


def ask_smart(before: Answers, sysfs: Path = Path("/sys")) -> Answers:
    """`smartctl`, of every disk that may have a record; one that sleeps keeps the answer it had."""
    now = boot_clock()
    answers = {}
    for disk in smart_disks(sysfs):
        known = before.get(disk)
        if known is not None and 0 <= now - known.asked < SMART_PERIOD_SECONDS - PERIOD_SECONDS / 2:
            answers[disk] = known
            continue
        log = () if disk.startswith("nvme") else SMARTCTL_LOG
        answer = ask((*SMARTCTL, *log, f"/dev/{disk}"))
        sleeps = answer.status == 2 and "standby" in answer.output.lower()
        answers[disk] = msgspec.structs.replace(known, asked=now) if sleeps and known else answer
    return answers


def stored(folder: Path, name: str) -> Answers:
    """The answers in the file; none when it is not there or not whole. Raises PermissionError."""
    try:
        return msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=Answers)
    except PermissionError:
        raise
    except (OSError, msgspec.DecodeError):
        return {}


class DeviceAnswers:
    """One program's answers, wherever they can be had."""

    def __init__(self, context: ProbeContext, name: str, asking: Callable[[Answers], Answers]) -> None:
        self._folder = context.rootfs / FOLDER
        self._boot_clock = context.boot_clock
        self._name = name
        self._asking = asking
        self._own: Answers = {}

    def forget(self, subject: str) -> None:
        """What was asked of it here is old now. The other unit's answers are its own to renew."""
        self._own = {name: answer for name, answer in self._own.items() if name != subject}

    def get(self, age_seconds_max: float) -> Answers:
        """Answers no older than that. Raises Denied with what would allow them."""
        if sys.platform != "linux":
            raise Unsupported("this way of asking is Linux's")
        try:
            answers = stored(self._folder, self._name)
        except PermissionError:
            raise Denied(
                f"{self._folder}/{self._name}.json may not be read; its group must be the agent's, as the unit "
                "holdfast-devices.service has it"
            ) from None
        now = self._boot_clock()
        if answers and all(0 <= now - answer.asked <= age_seconds_max for answer in answers.values()):
            return answers
        if os.geteuid() == 0:
            self._own = self._asking(self._own)
            return self._own
        if answers:
            oldest = max(now - answer.asked for answer in answers.values())
            raise Denied(
                f"the newest answer is {oldest / 60:.0f} minutes old; see: systemctl status holdfast-devices.timer"
            )
        raise Denied("needs root's rights; enable holdfast-devices.timer, which asks for the agent")
