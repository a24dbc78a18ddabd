"""Sentences with facts in them: what they say, and which are refused when a pack is loaded."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_rules.errors import ExpressionInvalid
from holdfast_rules.template import parse_template, render, show
from tests.rules.resource import Resource

RESOURCE = Resource(
    facts={
        "mountpoint": "/srv",
        "free_ratio": 0.0314,
        "free_bytes": 1_234_567_890,
        "inodes_free": 1_234_567,
        "writable": False,
        "source": "a\n  b",
    },
    relatives={"node": {"kernel": "6.1.0", "uptime_seconds": 93784.5}},
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{node}: {mountpoint} has {free_ratio:.1%} free", "vm-1: /srv has 3.1% free"),
        ("{kind} {resource}", "volume /srv"),
        ("{free_bytes:bytes} or {free_bytes} or {inodes_free:,d}", "1.1 GiB or 1234567890 or 1,234,567"),
        ("{free_ratio} {free_ratio:.3f} {free_ratio:.0%}", "0.0314 0.031 3%"),
        ("writable: {writable}", "writable: no"),
        ("{fstype} {size_bytes:bytes}", "unknown unknown"),
        ("{node.kernel} up {node.uptime_seconds:duration}", "6.1.0 up 1d2h"),
        ("{device.kernel_io_error_last}", "unknown"),
        ("{source}", "a b"),
        ("no fields, {{braces}}", "no fields, {braces}"),
    ],
)
def test_a_sentence_says_its_facts_and_unknown_for_what_is_absent(text: str, said: str) -> None:
    assert render(parse_template(text, "volume"), RESOURCE) == said


def test_a_long_text_is_cut_so_that_a_page_stays_readable() -> None:
    said = show("x" * 5000)

    assert (len(said), said[-2:]) == (500, "x…")


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 * 1024**3, "5.0 GiB"),
        (1024**5, "1.0 PiB"),
        (3 * 1024**6, "3072.0 PiB"),
    ],
)
def test_bytes_are_said_in_the_largest_unit_that_fits(count: int, said: str) -> None:
    assert show(count, "bytes") == said


@pytest.mark.parametrize(
    ("text", "place", "words", "nearest"),
    [
        ("{mountpiont} full", "{mountpiont}", "{mountpiont} is not a fact of a volume", "{mountpoint}"),
        ("on {nod}", "{nod}", "is not a fact", "{node}"),
        ("{node.kernle}", "{node.kernle}", "is not a fact of a node", "{node.kernel}"),
        ("{service.up}", "{service.up}", "a volume has no one service", ""),
        ("{node.__class__}", "{node.__class__}", "is not a fact of a node", ""),
        ("{node.kernel.x}", "{node.kernel.x}", "a volume has no one node.kernel", ""),
        ("{mountpoint[0]}", "{mountpoint[0]}", "is not a fact", "{mountpoint}"),
        ("{}", "{}", "{} is not a fact", ""),
        ("{0}", "{0}", "{0} is not a fact", ""),
        ("{mountpoint!r}", "{mountpoint!r}", "a field has no conversion", ""),
        ("{mountpoint:>500}", "{mountpoint:>500}", "a field is shown as", ""),
        ("{free_ratio:{free_ratio}}", "{free_ratio:{free_ratio}}", "a field is shown as", ""),
        ("{mountpoint:.1f}", "{mountpoint:.1f}", "is str and takes no format", ""),
        ("{writable:d}", "{writable:d}", "is bool and takes no format", ""),
        ("{free_ratio:d}", "{free_ratio:d}", "not a whole number", ""),
        ("{node:.1f}", "{node:.1f}", "{node} is text", ""),
        ("a {mountpoint", "a {mountpoint", "not a sentence with fields", ""),
        ("a } b", "a } b", "not a sentence with fields", ""),
    ],
)
def test_a_field_that_cannot_be_filled_is_refused_with_its_place(
    text: str, place: str, words: str, nearest: str
) -> None:
    with pytest.raises(ExpressionInvalid) as caught:
        parse_template(text, "volume")
    [fault] = caught.value.faults

    assert (text[fault.offset :][: len(place)], fault.nearest) == (place, nearest)
    assert words in fault.message


@settings(max_examples=500)
@given(
    st.lists(
        st.sampled_from(
            ["{", "}", "{{", "node", ".", ":", "!", "r", "free_ratio", ".1%", "[0]", "x", "__class__", " "]
        )
    )
)
def test_hostile_sentences_are_refused_or_say_something(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        template, faults = parse_template(text, "volume"), []
    except ExpressionInvalid as error:
        template, faults = (), error.faults

    assert isinstance(render(template, RESOURCE), str)
    assert all(0 <= fault.offset <= len(text) for fault in faults)
