"""Records of /dev/kmsg: one read is one record, in the format of Documentation/ABI/testing/dev-kmsg."""

from holdfast_agent.probes.kmsg import KmsgRecord, parse_record


def test_a_record_carries_level_sequence_time_text_and_dictionary() -> None:
    raw = b"3,1234,98765432,-,caller=T17;I/O error, dev sda, sector 8\n SUBSYSTEM=block\n DEVICE=b8:0\n"

    assert parse_record(raw) == KmsgRecord(
        seq=1234,
        usec=98765432,
        level=3,
        facility=0,
        text="I/O error, dev sda, sector 8",
        dictionary={"SUBSYSTEM": "block", "DEVICE": "b8:0"},
    )


def test_escaped_bytes_become_what_the_kernel_printed() -> None:
    record = parse_record(
        rb"6,1,2,-;dd: attempt to access beyond end of device\x0aloop3: rw=1, caf\xc3\xa9 \x5c" + b"\n"
    )

    assert record is not None
    assert record.text == "dd: attempt to access beyond end of device\nloop3: rw=1, café \\"


def test_what_user_space_writes_is_not_the_kernels() -> None:
    """`devkmsg_write` moves everything user space writes out of facility 0; systemd writes with facility 3 (24+level)."""
    record = parse_record(b"30,5,6,-;systemd[1]: EXT4-fs (vda): Remounting filesystem read-only\n")

    assert record is not None
    assert not record.from_kernel


def test_a_fragment_is_marked() -> None:
    record = parse_record(b"6,7,8,c;continued\n")

    assert record is not None
    assert record.fragment


def test_bytes_of_another_format_are_no_record() -> None:
    assert [parse_record(raw) for raw in (b"", b"no semicolon", b"x,1,2,-;text", b"1,2;text")] == [None] * 4
