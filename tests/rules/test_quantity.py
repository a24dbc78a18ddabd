"""Amounts with a unit in conditions: what they say, and that the fact beside them decides how they are read."""

import pytest

from holdfast_rules import quantity
from holdfast_rules.errors import ExpressionInvalid
from holdfast_rules.expression import compile_expression
from holdfast_wire.message import Value
from tests.rules.resource import Resource


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [
        ("10m", "seconds", 600.0),
        ("1h30m", "seconds", 5400.0),
        ("250ms", "seconds", 0.25),
        ("2.5ms", "seconds", 0.0025),
        ("-1s", "seconds", -1.0),
        ("5GiB", "bytes", 5 * 2**30),
        ("5 GiB", "bytes", 5 * 2**30),
        ("1.5TB", "bytes", 1.5e12),
        ("512B", "bytes", 512),
        ("-64KiB", "bytes", -65_536),
        ("8PiB", "bytes", 2**53),
    ],
)
def test_an_amount_is_what_it_says(text: str, unit: str, amount: float) -> None:
    assert quantity.parse(text, unit) == amount


@pytest.mark.parametrize(
    ("text", "unit", "said"),
    [
        ("5G", "bytes", "did you mean GiB or GB?"),
        ("5gib", "bytes", "did you mean GiB or GB?"),
        ("GiB", "bytes", "write like 512MiB"),
        ("9PiB", "bytes", "8PiB is the largest"),
        ("10", "seconds", "write like 500ms, 90s"),
        ("1.5h", "seconds", "write like 500ms, 90s"),
        ("--1s", "seconds", "write like 500ms, 90s"),
        ("500d", "seconds", "longer than a year"),
        ("5GiB", "ratio", "has a unit"),
    ],
)
def test_what_is_no_amount_is_refused_with_what_would_be_right(text: str, unit: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        quantity.parse(text, unit)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('free_bytes < "1KiB"', True),
        ('"1KiB" <= free_bytes', False),
        ('"100B" < free_bytes < "1KiB"', True),
        ('size_bytes - free_bytes >= "24B"', True),
        ('min(free_bytes, size_bytes) * 2 == "2000B"', True),
        ('age(free_bytes) > "5m"', True),
        ('age(free_bytes) > "10m"', False),
        ('fstype == "5m"', False),
    ],
)
def test_an_amount_is_read_in_the_unit_of_what_it_is_compared_with(text: str, expected: bool) -> None:
    facts: dict[str, Value] = {"free_bytes": 1000, "size_bytes": 1024, "fstype": "ext4"}
    volume = Resource(facts=facts, observed={"free_bytes": 400.0})

    assert compile_expression(text, "volume").program(volume.facts.get, volume, 1000.0) is expected


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ('dead or free_bytes < "10m"', '"10m"', "'10m' is an amount of seconds; what it is compared with is in bytes"),
        ('free_ratio < "5GiB"', '"5GiB"', "is an amount of bytes; what it is compared with is in ratio"),
        ('inodes_free < "5m"', '"5m"', "is a number without a unit"),
        ('free_bytes < "5G"', '"5G"', "did you mean GiB or GB?"),
        ('free_bytes / size_bytes < "5GiB"', '"5GiB"', "is a number without a unit"),
        ('rate(free_bytes, "1h") < "5MiB"', '"5MiB"', "is in bytes per second"),
        ("free_bytes < age(dead)", "age(dead)", "`free_bytes` is in bytes and `age(dead)` in seconds"),
        ('"1s" < "2s"', '"1s" < "2s"', "is text, which has no order"),
        ('free_bytes + "1GiB" > 1', '"1GiB" > 1', "is text; `+` wants a number"),
        ('free_bytes < "-5GiB"', 'free_bytes < "-5GiB"', "never holds"),
    ],
)  # fmt: skip
def test_a_unit_that_does_not_fit_is_a_mistake_with_its_place(text: str, place: str, said: str) -> None:
    with pytest.raises(ExpressionInvalid) as caught:
        compile_expression(text, "volume")
    [fault] = caught.value.faults

    assert text[fault.offset :] == place
    assert said in fault.message
