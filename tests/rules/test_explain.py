"""Explanations: every operand with its value, and what would make a condition clear."""

import pytest

from holdfast_rules.explain import Part, Whence, clears_when, explain, unknown_leaves
from holdfast_rules.expression import compile_expression
from holdfast_rules.subject import Subject
from holdfast_wire.message import Value
from tests.rules.resource import Resource

FACTS: dict[str, Value] = {
    "free_ratio": 0.03,
    "free_bytes": 250,
    "dead": False,
    "fstype": "ext4",
    "writable": True,
}


def whence(subject: Subject, kind: str, fact: str) -> Whence:
    return Whence(resource=subject.name, probe=f"{kind}.{fact}")


def explained(text: str, subject: Resource | None = None, **constants: float) -> Part:
    subject = subject or Resource(facts=FACTS)
    tree = compile_expression(text, subject.kind, constants).tree
    return explain(tree, text, subject, 1000.0, whence)


def outline(part: Part) -> list[tuple[str, Value | None]]:
    return [(part.text, part.value), *(row for below in part.parts for row in outline(below))]


def test_every_operand_has_its_value_and_every_fact_its_source() -> None:
    part = explained('expected_writable or free_ratio < low and fstype in ("ext4", "xfs")', low=0.05)

    assert outline(part) == [
        ('expected_writable or free_ratio < low and fstype in ("ext4", "xfs")', True),
        ("expected_writable", None),
        ('free_ratio < low and fstype in ("ext4", "xfs")', True),
        ("free_ratio < low", True),
        ("free_ratio", 0.03),
        ("low", 0.05),
        ('fstype in ("ext4", "xfs")', True),
        ("fstype", "ext4"),
    ]
    assert part.parts[0].whence == Whence(resource="/srv", probe="volume.expected_writable")
    assert part.parts[1].parts[0].parts[0].unit == "ratio"


def test_history_shows_what_was_seen_at_least() -> None:
    seen = Resource(
        facts={"filesystem_errors_total": 4}, histories={"filesystem_errors_total": [(900.0, 1), (950.0, 4)]}
    )
    part = explained('delta(filesystem_errors_total, "1h") >= 3', seen)

    assert part.value is True
    assert (part.parts[0].value, part.parts[0].note[:8]) == (3, "at least")
    assert outline(part.parts[0])[1] == ("filesystem_errors_total now", 4)


def test_many_resources_are_listed_those_that_decide_first() -> None:
    rows = [({"dead": False}, "/a"), ({"dead": True}, "/b"), ({}, "/c")]
    neighbours = [Resource(kind="volume", name=name, facts=dict(facts), resting=True) for facts, name in rows]
    there = Resource(kind="node", name="vm-1", neighbours=neighbours)
    part = explained("any(v.dead for v in volumes)", there)

    assert [(row.text, row.value) for row in part.parts] == [("/b", True), ("/c", None), ("/a", False)]
    assert part.parts[0].parts[0].whence == Whence(resource="/b", probe="volume.dead")
    assert part.note == "there may be volumes that nobody sees at present"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("free_ratio < 0.05", "free_ratio >= 0.05"),
        ("0.01 < free_ratio < 0.05", "0.01 >= free_ratio or free_ratio >= 0.05"),
        ("not dead", "dead"),
        ("writable", "not writable"),
        ('fstype == "ext4"', 'fstype != "ext4"'),
        ('fstype in ("ext4", "xfs")', 'fstype not in ("ext4", "xfs")'),
        ("writable and (dead or free_ratio < 0.05)", "not writable or free_ratio >= 0.05"),
        ("writable and not dead or free_bytes < 300", "(not writable or dead) and free_bytes >= 300"),
        ("any(v.dead for v in node.volumes)", "not any(v.dead for v in node.volumes)"),
        ("True", "never"),
    ],
)
def test_what_would_make_it_clear_is_a_condition(text: str, expected: str) -> None:
    part = explained(text)

    assert clears_when(compile_expression(text, "volume").tree, part, text) == expected


def test_what_keeps_an_answer_away_is_named() -> None:
    part = explained("writable and (network or inodes < 5) and not node.boot_dirty")

    assert [leaf.text for leaf in unknown_leaves(part)] == ["network", "inodes", "node.boot_dirty"]
