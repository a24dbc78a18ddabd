"""Golden bytes: what version 1 looks like on the wire, for ever.

A file per kind under `golden/v1`. Agents in the field send these bytes; a change of the code that no longer reads
them, or that writes others, breaks a fleet. New fields get new files; the old ones stay.
"""

from pathlib import Path

import pytest

from holdfast_wire import (
    Ack,
    Acknowledgement,
    ChainHead,
    DownMessage,
    Expect,
    Expected,
    Resend,
    decode_down,
    decode_up,
    encode,
)
from tests.wire.test_codec import MESSAGES

GOLDEN = Path(__file__).parent / "golden" / "v1"
DOWN: dict[str, DownMessage] = {
    "ack": Ack(install_id="0f9c2b7e5a1d4c3e", messages=[Acknowledgement(3, 8, "9d2c1f0aa0b1c2d3")]),
    "resend": Resend(install_id="0f9c2b7e5a1d4c3e", probes=["volumes"]),
    "expect": Expect(
        install_id="0f9c2b7e5a1d4c3e",
        chains=[
            Expected(volume="/srv", chain_id="5f" * 16, head=ChainHead(4_711, "ab" * 32), doubted=True),
            Expected(volume="/", chain_id="6e" * 16, head=None, frozen=True),
        ],
    ),
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_messages_of_version_1_are_read_and_written_alike(kind: str) -> None:
    """Both directions: an old agent is understood, and a new one is understood by an old collector."""
    golden = (GOLDEN / f"{kind}.json").read_bytes()

    assert decode_up("db-1", golden) == MESSAGES[kind]
    assert encode(MESSAGES[kind]) == golden


@pytest.mark.parametrize("kind", DOWN)
def test_answers_of_version_1_are_read_and_written_alike(kind: str) -> None:
    """What the collector says."""
    golden = (GOLDEN / f"{kind}.json").read_bytes()

    assert decode_down(golden) == DOWN[kind]
    assert encode(DOWN[kind]) == golden
