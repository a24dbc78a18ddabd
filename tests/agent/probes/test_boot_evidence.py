"""How the previous run ended: what each trace shows, and what they show together."""

import os
import struct
import sys
from pathlib import Path

import pytest

from holdfast_agent.probes.boot_evidence import BootEvidence, judge
from holdfast_agent.probes.wtmp import WtmpRecord, parse_wtmp, record_bytes

BOOTED_AT = 1_764_000_000.0
CLEAN_WTMP = [WtmpRecord("boot", 1e9), WtmpRecord("shutdown", 1e9 + 50), WtmpRecord("boot", BOOTED_AT + 4)]
CRASHED_WTMP = [WtmpRecord("boot", 1e9), WtmpRecord("boot", BOOTED_AT + 4)]
REPLAYED = ["EXT4-fs (sda1): recovery complete"]
UNCLEAN = [
    "File /var/log/journal/5e/system.journal corrupted or uncleanly shut down, renaming and replacing."
]
SHUTDOWN = "Reached target shutdown.target - System Shutdown."


@pytest.mark.parametrize(
    ("traces", "dirty", "evidence"),
    [
        ({"replayed": REPLAYED}, True, REPLAYED[0]),
        ({"journal_unclean": UNCLEAN}, True, UNCLEAN[0]),
        ({"crashes": [BOOTED_AT - 60]}, True, "a kernel crash is kept in pstore or /var/crash"),
        ({"wtmp": CRASHED_WTMP}, True, "wtmp has the boot before this one and no shutdown between them"),
        ({"wtmp": CLEAN_WTMP}, False, "wtmp has a shutdown before this boot"),
        ({"journal_shutdown": SHUTDOWN}, False, f"the previous boot's journal has it: {SHUTDOWN}"),
    ],
)
def test_one_trace_alone_decides(traces: dict[str, list[str]], dirty: bool, evidence: str) -> None:
    verdict = judge(BootEvidence(booted_at=BOOTED_AT, **traces))  # type: ignore[arg-type]  # each case its own trace

    assert (verdict.dirty, verdict.evidence) == (dirty, evidence)


def test_a_shutdown_that_did_not_end_was_dirty() -> None:
    verdict = judge(BootEvidence(booted_at=BOOTED_AT, replayed=REPLAYED, wtmp=CLEAN_WTMP))

    assert verdict.dirty is True
    assert verdict.evidence.endswith("although a shutdown had begun")


def test_an_orderly_shutdown_in_the_journal_outweighs_a_record_missing_from_wtmp() -> None:
    """/var/log may already be unmounted when the shutdown record is due."""
    verdict = judge(BootEvidence(booted_at=BOOTED_AT, journal_shutdown=SHUTDOWN, wtmp=CRASHED_WTMP))

    assert verdict.dirty is False


def test_without_a_trace_nothing_is_known_and_the_reasons_are_told() -> None:
    verdict = judge(BootEvidence(booted_at=BOOTED_AT, unreadable={"wtmp": "No such file or directory"}))

    assert verdict.dirty is None
    assert verdict.evidence == "nothing shows how the previous run ended; wtmp: No such file or directory"


@pytest.mark.parametrize(
    "wtmp",
    [
        [WtmpRecord("boot", BOOTED_AT + 4)],
        [WtmpRecord("boot", 1e9), WtmpRecord("shutdown", 1e9 + 50)],
        [WtmpRecord("boot", 1e9), WtmpRecord("boot", 1e9 + 100)],
    ],
)
def test_a_wtmp_that_is_new_or_no_longer_kept_shows_nothing(wtmp: list[WtmpRecord]) -> None:
    assert judge(BootEvidence(booted_at=BOOTED_AT, wtmp=wtmp)).dirty is None


@pytest.mark.parametrize("at", [BOOTED_AT - 86_400, BOOTED_AT + 3600])
def test_a_crash_of_another_time_shows_nothing(at: float) -> None:
    assert judge(BootEvidence(booted_at=BOOTED_AT, crashes=[at])).dirty is None


def utmp_record(kind: int, user: bytes, seconds: int) -> bytes:
    """struct utmp as glibc lays it out on x86-64."""
    return struct.pack(
        "<hxxi32s4s32s256shhiii16s20x", kind, 0, b"~", b"~~", user, b"6.1.0", 0, 0, 0, seconds, 0, b""
    )


def test_wtmp_keeps_the_machines_own_records_in_order() -> None:
    data = b"".join(
        [
            utmp_record(2, b"reboot", 100),
            utmp_record(1, b"runlevel", 101),
            utmp_record(7, b"ana", 150),
            utmp_record(1, b"shutdown", 200),
            utmp_record(2, b"reboot", 300),
        ]
    )

    assert parse_wtmp(b"torn" + data, 384) == [
        WtmpRecord("boot", 100.0),
        WtmpRecord("shutdown", 200.0),
        WtmpRecord("boot", 300.0),
    ]


def test_wtmp_of_architectures_that_never_had_32_bit_times_is_wider() -> None:
    record = struct.pack(
        "<hxxi32s4s32s256shhqqq16s20x4x", 2, 0, b"~", b"~~", b"reboot", b"6.1.0", 0, 0, 0, 1 << 33, 0, b""
    )

    assert (record_bytes("x86_64"), record_bytes("aarch64")) == (384, len(record))
    assert parse_wtmp(record, 400) == [WtmpRecord("boot", float(1 << 33))]


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux leaves behind")
def test_dumps_of_the_kernel_are_found_and_those_of_programs_are_not(tmp_path: Path) -> None:
    """Debian's kdump-tools and RHEL's kdump make a folder for each crash; apport's files lie beside them."""
    from holdfast_agent.probes.boot_evidence_linux import gather_boot_evidence

    crash = tmp_path / "var" / "crash"
    for name, at in (
        ("202511241200/dump.202511241200", 100.0),
        ("202511241200/dmesg.202511241200", 101.0),
        ("127.0.0.1-2025-11-24-12:00:00/vmcore", 102.0),
        ("_usr_bin_python3.1000.crash", 103.0),
        ("kexec_cmd", 104.0),
    ):
        (crash / name).parent.mkdir(parents=True, exist_ok=True)
        (crash / name).touch()
        os.utime(crash / name, (at, at))

    evidence = gather_boot_evidence(
        tmp_path, tmp_path / "sys", machine="x86_64", booted_at=BOOTED_AT, previous_boot_id=""
    )

    assert sorted(evidence.crashes) == [100.0, 101.0, 102.0]
