"""What the codec takes, what it refuses, and why."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_wire import (
    Ack,
    Acknowledgement,
    Birth,
    ChainHead,
    ChainReport,
    Death,
    DownMessage,
    Event,
    Expect,
    Expected,
    Machine,
    Mark,
    Position,
    ReadCause,
    Refusal,
    RefusalReason,
    Report,
    Resend,
    Resource,
    Section,
    SectionStatus,
    SpoolState,
    VolumeIdentity,
    Witness,
    content_digest,
    decode_down,
    decode_up,
    encode,
    section_digest,
)
from holdfast_wire.codec import MESSAGE_BYTES_MAX, RESOURCES_MAX
from holdfast_wire.fact import EVENT_TYPES, FACTS
from holdfast_wire.message import DeathReason, UpMessage

HEADER: dict[str, Any] = {
    "node": "db-1",
    "install_id": "0f9c2b7e5a1d4c3e",
    "boot_id": "5b0f6b1e-8a52-4f3c-9d3a-2f6f6f1f0c11",
    "epoch": 3,
    "sent_at": 1_763_800_000.125,
    "mono": 5_023.5,
}
SPOOL = SpoolState(messages=2, bytes=911, dropped_total=0, in_memory=False)
VOLUME = Resource(
    kind="volume",
    name="/var/lib/postgresql",
    facts={
        "mountpoint": "/var/lib/postgresql",
        "size_bytes": 536_870_912_000,
        "free_ratio": 0.1,
        "read_only": False,
    },
)
SECTION = Section(
    probe="volumes",
    status=SectionStatus.OK,
    observed_at=1_763_800_000.0,
    mono=5_023.0,
    period_seconds=10.0,
    duration_seconds=0.004,
    resources=[VOLUME],
)
MACHINE = Machine(
    machine_id="c2a1f6b9d4e84f0e9b7a5d3c1e2f4a6b", instance_id="6b2c4d1e-8f3a-4b5c-9d7e-0a1b2c3d4e5f"
)
MESSAGES: dict[str, UpMessage] = {
    "birth": Birth(
        **HEADER,
        seq=1,
        agent_version="0.1.0",
        os="linux",
        os_name="Debian GNU/Linux 12 (bookworm)",
        kernel="6.1.0-56-amd64",
        interval_seconds=10.0,
        previous_stop="dirty",
        spool=SPOOL,
        acknowledged=Position(2, 881),
        machine=MACHINE,
        previous_boot="dirty",
        previous_boot_evidence="EXT4-fs (sdc1): recovery complete",
    ),
    "report": Report(
        **HEADER,
        seq=7,
        connection=1,
        interval_seconds=10.0,
        floor=Position(3, 5),
        spool=SPOOL,
        marks={"volumes": Mark(digest=section_digest(SECTION), mono=5_023.0, duration_seconds=0.004)},
        sections=[SECTION],
    ),
    "event": Event(
        **HEADER,
        seq=8,
        type="kernel_data_loss",
        resource_kind="device",
        resource="sdb1",
        at=1_763_800_000.1,
        summary="Buffer I/O error on dev sdb1, logical block 4660, lost async page write",
        fields={"kmsg_seq": 4_711},
    ),
    "death": Death(**HEADER, seq=6, reason=DeathReason.LOST, connection=1),
    "witness": Witness(
        **HEADER,
        seq=9,
        volume="/srv",
        chain_id="5f" * 16,
        head=ChainHead(4_711, "ab" * 32),
        previous=ChainHead(4_709, "cd" * 32),
        written_at=1_763_800_000.1,
        fsync_seconds=0.00031,
        metadata_seq=78,
        acknowledged_seq=4_708,
    ),
    "chain_report": ChainReport(
        **HEADER,
        seq=10,
        identity=VolumeIdentity(
            volume="/srv",
            fstype="ext4",
            filesystem_id="8a6f3c1e-77b2-4c55-9a35-6c2f1f4b7f10",
            device="sdc1",
            device_id="60022480f1c4b1a2e3d4c5b6a7980011-part1",
            mount_id=87,
        ),
        machine=MACHINE,
        cause=ReadCause.BOOT,
        chain_id="5f" * 16,
        owner="0f9c2b7e5a1d4c3e",
        began_on="/srv",
        head=ChainHead(4_711, "ab" * 32),
        hashes=[ChainHead(4_709, "cd" * 8), ChainHead(4_711, "ab" * 8)],
        oldest_seq=2_664,
        broken=[3_001],
        torn_seq=4_712,
        acknowledged_seq=4_708,
        written_by_boot="1f0c8f0e-93c2-4d3c-8a5a-2b1f5f7a9c11",
        written_at=1_763_800_000.1,
        metadata_seq=78,
        previous_boot="dirty",
    ),
}


def altered(kind: str, /, **changes: Any) -> bytes:
    """The message of `kind` with some of its JSON fields replaced; None removes one."""
    plain = json.loads(encode(MESSAGES[kind]))
    plain.update(changes)
    return json.dumps({key: value for key, value in plain.items() if value is not None}).encode()


def refusal(payload: bytes, node: str = "db-1") -> Refusal:
    outcome = decode_up(node, payload)
    assert isinstance(outcome, Refusal)
    return outcome


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_comes_back_as_it_was(kind: str) -> None:
    """Nothing is lost or invented between agent and collector."""
    message = MESSAGES[kind]

    assert decode_up("db-1", encode(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        Ack(install_id="a", messages=[Acknowledgement(3, 8, "00ff")]),
        Resend(install_id="a", probes=["host"]),
        Expect(install_id="a", chains=[Expected(volume="/", chain_id="5f" * 16, head=None)]),
    ],
)
def test_a_message_down_comes_back_as_it_was(message: DownMessage) -> None:
    """The same for what the collector says."""
    assert decode_down(encode(message)) == message


def test_unknown_fields_facts_events_and_resource_kinds_of_newer_agents_pass() -> None:
    """An agent may be newer than its collector, and must not be deaf and dumb for it."""
    newer = json.loads(encode(MESSAGES["report"]))
    newer["later"] = {"deep": [1, 2]}
    newer["sections"][0]["resources"][0]["facts"]["invented"] = "x"
    newer["sections"][0]["resources"].append({"kind": "galaxy", "name": "m31", "facts": {"stars": 1e12}})

    report = decode_up("db-1", json.dumps(newer).encode())
    event = decode_up("db-1", altered("event", type="never_heard_of"))

    assert isinstance(report, Report)
    assert isinstance(event, Event)


@pytest.mark.parametrize("kind", MESSAGES)
def test_every_missing_field_without_a_default_is_refused_by_name(kind: str) -> None:
    """Half a message is worse than none; the reason names the field."""
    optional = {
        field.name
        for field in msgspec.structs.fields(MESSAGES[kind])
        if field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT
    }
    for field in json.loads(encode(MESSAGES[kind])).keys() - optional - {"kind"}:
        outcome = refusal(altered(kind, **{field: None}))

        assert (outcome.reason, field in outcome.detail) == (RefusalReason.MALFORMED, True), field


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", RefusalReason.MALFORMED),
        (b"{", RefusalReason.MALFORMED),
        (b"\xff\xfe", RefusalReason.MALFORMED),
        (b"[" * 100_000, RefusalReason.MALFORMED),
        (b"[]", RefusalReason.MALFORMED),
        (b" " * (MESSAGE_BYTES_MAX + 1), RefusalReason.OVERSIZE),
        (altered("event", v=2), RefusalReason.UNSUPPORTED_VERSION),
        (altered("event", kind="command"), RefusalReason.UNKNOWN_KIND),
        (altered("event", node="db-2"), RefusalReason.FOREIGN_NODE),
        (altered("event", epoch="3"), RefusalReason.MALFORMED),
        (altered("event", epoch=0), RefusalReason.OUT_OF_BOUNDS),
        (altered("event", seq=-1), RefusalReason.OUT_OF_BOUNDS),
        (altered("event", seq=2**53), RefusalReason.OUT_OF_BOUNDS),
        (altered("event", install_id="x" * 65), RefusalReason.OUT_OF_BOUNDS),
        (altered("event", resource=""), RefusalReason.OUT_OF_BOUNDS),
        (altered("witness", volume=""), RefusalReason.OUT_OF_BOUNDS),
        (altered("witness", chain_id="../../etc"), RefusalReason.OUT_OF_BOUNDS),
        (altered("witness", head=[4_711, "ab"]), RefusalReason.OUT_OF_BOUNDS),
        (altered("witness", head=[4_708, "ab" * 32]), RefusalReason.OUT_OF_BOUNDS),
        (altered("chain_report", chain_id="x" * 32), RefusalReason.OUT_OF_BOUNDS),
        (altered("chain_report", head=[0, "ab" * 32]), RefusalReason.OUT_OF_BOUNDS),
        (altered("chain_report", broken=list(range(1, 5_000))), RefusalReason.OUT_OF_BOUNDS),
        (altered("chain_report", cause="whim"), RefusalReason.MALFORMED),
        (altered("event", summary="x" * 5000), RefusalReason.OUT_OF_BOUNDS),
        (altered("event", resource_kind="volume"), RefusalReason.BAD_FACT),
        (altered("event", type="witness_loss", resource_kind="volume"), RefusalReason.BAD_FACT),
        (altered("report", interval_seconds=0), RefusalReason.OUT_OF_BOUNDS),
        (altered("birth", interval_seconds=1e9), RefusalReason.OUT_OF_BOUNDS),
        (altered("death", reason="bored"), RefusalReason.MALFORMED),
    ],
)
def test_what_is_no_message_is_refused_with_its_reason(payload: bytes, reason: RefusalReason) -> None:
    """Each reason is a metric label, so an operator sees which kind of wrong arrives."""
    assert refusal(payload).reason == reason


@pytest.mark.parametrize(
    ("fact", "value"),
    [("size_bytes", 1.5), ("size_bytes", True), ("read_only", 0), ("free_ratio", "low"), ("fstype", 4)],
)
def test_a_known_fact_of_another_type_is_refused_by_name(fact: str, value: object) -> None:
    """A rule compiled for a number must never meet a text."""
    plain = json.loads(encode(MESSAGES["report"]))
    plain["sections"][0]["resources"][0]["facts"][fact] = value

    outcome = refusal(json.dumps(plain).encode())

    assert (outcome.reason, f"volume.{fact}" in outcome.detail) == (RefusalReason.BAD_FACT, True)


def test_too_many_resources_are_refused() -> None:
    """A single node must not be able to fill the collector's memory."""
    plain = json.loads(encode(MESSAGES["report"]))
    plain["sections"][0]["resources"] = [{"kind": "s", "name": "n"}] * (RESOURCES_MAX + 1)

    assert refusal(json.dumps(plain, separators=(",", ":")).encode()).reason == RefusalReason.OUT_OF_BOUNDS


def test_a_section_has_the_same_digest_whenever_and_however_slowly_it_was_observed() -> None:
    """Unchanged facts need not be sent again; any change must be."""
    import msgspec

    later = msgspec.structs.replace(SECTION, observed_at=9.0, mono=9.0, duration_seconds=1.0)
    fuller = msgspec.structs.replace(
        SECTION,
        resources=[Resource(kind="volume", name=VOLUME.name, facts={**VOLUME.facts, "free_ratio": 0.09})],
    )
    failing = msgspec.structs.replace(SECTION, status=SectionStatus.TIMEOUT)

    assert section_digest(later) == section_digest(SECTION)
    assert len({section_digest(SECTION), section_digest(fuller), section_digest(failing)}) == 3


def test_a_twin_has_another_digest() -> None:
    """Two machines of one identity never say the same bytes; an acknowledgement of one must not delete the other's."""
    assert content_digest(altered("event", summary="a")) != content_digest(altered("event", summary="b"))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=6_000, deadline=None)
@given(data=st.data())
def test_no_mutation_of_a_real_message_escapes_the_codec(data: st.DataObject) -> None:
    """Whatever a field becomes, the outcome is a message of this node or a refusal, never an exception."""
    kind = data.draw(st.sampled_from(sorted(MESSAGES)))
    plain: Any = json.loads(encode(MESSAGES[kind]))
    spot: Any = plain
    for _ in range(data.draw(st.integers(0, 4))):
        key = data.draw(st.sampled_from(sorted(spot) if isinstance(spot, dict) else range(len(spot))))
        if not isinstance(spot[key], dict | list) or not spot[key]:
            break
        spot = spot[key]
    key = data.draw(st.sampled_from(sorted(spot) if isinstance(spot, dict) else range(len(spot))))
    spot[key] = data.draw(JSON_VALUES)

    outcome = decode_up("db-1", json.dumps(plain).encode())

    assert isinstance(outcome, Refusal) or outcome.node == "db-1"


@settings(max_examples=6_000, deadline=None)
@given(payload=st.binary(max_size=300) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_escape_the_codec(payload: bytes) -> None:
    """Arbitrary bytes on a topic are refused in both directions."""
    assert isinstance(decode_up("db-1", payload), Refusal)
    assert isinstance(decode_down(payload), Refusal)


@settings(max_examples=300, deadline=None)
@given(cut=st.integers(0, len(encode(MESSAGES["report"])) - 1))
def test_a_truncated_message_is_refused(cut: int) -> None:
    """A broker that dies mid-packet cannot make half a report count."""
    assert refusal(encode(MESSAGES["report"])[:cut]).reason == RefusalReason.MALFORMED


def test_every_fact_and_event_explains_itself() -> None:
    """The help is what an operator reads beside the metric."""
    helps = {fact.name: fact.help for fact in FACTS} | {
        type_.name: type_.help for type_ in EVENT_TYPES.values()
    }

    assert {name for name, help_ in helps.items() if not help_.endswith((".", "…"))} == set()


def test_metrics_end_in_their_base_unit() -> None:
    """Prometheus naming: base units last, ratios 0 to 1, counters in _total."""
    wrong = [
        declared.metric
        for declared in FACTS
        if declared.metric
        and declared.unit
        and not declared.metric.removesuffix("_total").endswith(f"_{declared.unit}")
    ]

    assert wrong == []
