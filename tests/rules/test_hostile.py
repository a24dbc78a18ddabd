"""Rules from somebody who means harm: whatever the text, it is refused with a place or asks for facts and nothing else.

A pack is read by a process that pages people and often runs as root. So nothing in a condition may reach Python, and no
text may cost more than its bounds: length, depth, number of parts, effort of the lint.
"""

import dis
from types import CodeType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_rules import PackError, RuleSet, load
from holdfast_rules.errors import ExpressionInvalid
from holdfast_rules.expression import Expression, compile_expression
from holdfast_rules.lower import FUNCTIONS
from holdfast_wire.message import Value
from tests.rules.resource import Resource

FACTS: dict[str, Value] = {
    "free_bytes": 2**53,
    "size_bytes": 1,
    "free_ratio": 0.5,
    "dead": True,
    "fstype": "x",
}
NODE = Resource(
    kind="node",
    name="vm-1",
    facts={"boot_dirty": True},
    neighbours=[Resource(kind="volume", name="/a", facts=FACTS), Resource(kind="volume", name="/b")],
    whole=frozenset({"volume"}),
)


def compiled(text: str, kind: str) -> Expression | None:
    """None when it is refused; anything but a refusal goes on."""
    try:
        return compile_expression(text, kind, {"limit": 5, "much": 2**53, "size": "5GiB"})
    except ExpressionInvalid as error:
        faults = error.faults
    assert faults
    assert all(0 <= fault.offset <= len(text) for fault in faults)
    return None


def codes(code: CodeType) -> list[CodeType]:
    """The code and all within it."""
    return [code, *(one for inner in code.co_consts if isinstance(inner, CodeType) for one in codes(inner))]


def harmless(expression: Expression) -> bool:
    """Its code names our functions only, takes no attribute, imports nothing, and has no builtins to find."""
    program: Any = expression.program
    parts = codes(program.__code__)
    operations = {each.opname for part in parts for each in dis.get_instructions(part)}
    return (
        {name for part in parts for name in part.co_names} <= FUNCTIONS
        and not any("ATTR" in name or "IMPORT" in name or "METHOD" in name for name in operations)
        and program.__globals__["__builtins__"] == {}
    )


def harmless_and_answers(text: str, kind: str) -> bool:
    """Whether a text is refused, or is harmless and answers yes, no or unknown."""
    expression = compiled(text, kind)
    if expression is None:
        return True
    subject = NODE if kind == "node" else Resource(facts=FACTS)
    answer = expression.program(subject.facts.get, subject, 1000.0)
    return harmless(expression) and answer in (True, False, None)


NAME = st.sampled_from(
    ["dead", "free_bytes", "v", "node", "volumes", "limit", "any", "__class__", "__globals__", "__import__", "f", "s", "at", "g", "e", "t1", "related", "count_of", "HOLDS"]
)  # fmt: skip
LEAF = st.one_of(
    NAME,
    st.sampled_from(["True", "None", "...", "'5GiB'", "'__class__'", "b'x'", "1j", "f'{dead}'", "[]", "{}", "()", "much", "size"]),
    st.integers(-(10**30), 10**30).map(str),
    st.floats().map(repr),
)  # fmt: skip
WRAPS = (
    "{0}.{1}", "{0}[{1}]", "{0}({1})", "{0}(*{1})", "{0}(x={1})", "(lambda: {0})()", "(lambda {1}: {0})",
    "({1} := {0})", "[{0} for {1} in volumes]", "{{{0}: {1}}}", "any({0} for {1} in volumes)",
    "count({0} for {1} in node.volumes if {0}) > {1}", "min({0} for v in volumes) < {1}", "all(v.dead for {1} in {0})",
    "any({0} for v in volumes for v in volumes)", "{0} if {1} else {0}", "not {0}", "-{0}", "{0} + {1}", "{0} * {1}",
    "{0} / {1}", "{0} ** {1}", "{0} < {1}", "{0} == {1}", "{0} in ({1}, {0})", "{0} and {1}", "{0} or {1}",
    "delta({0}, '1h') > {1}", "delta({0}, {1}) > 0", "age({0}) > {1}", "max({0}, {1}) > 0", "abs({0}) > {1}", "await {0}",
    "(yield {0})", "{0} is {1}", "f'{{{0}}}' == {1}", "print({0})", "{0}, {1}", "{0}; {1}", "`{0}`", "{0} @ {1}",
)  # fmt: skip
TRICK = st.recursive(
    LEAF,
    lambda inner: st.tuples(st.sampled_from(WRAPS), inner, inner).map(
        lambda row: f"({row[0].format(row[1], row[2])})"
    ),
    max_leaves=8,
)


@settings(max_examples=900, deadline=None)
@given(TRICK, st.sampled_from(["node", "volume"]))
def test_no_condition_reaches_python(text: str, kind: str) -> None:
    assert harmless_and_answers(text, kind)
    assert harmless_and_answers(f"dead and {text}", kind)


@pytest.mark.parametrize(
    "text",
    [
        "().__class__.__base__.__subclasses__()",
        "any(v.dead.__class__ for v in volumes)",
        "any(v.dead for v in volumes.__iter__())",
        "any(v.dead for v.dead in volumes)",
        "any(v.dead async for v in volumes)",
        "any(f.dead for f in volumes if (f := dead))",
        "any((lambda: v)() for v in volumes)",
        "count(s for s in volumes) > __import__('os').system('true')",
        "'%s' % dead == ''",
        "fstype.format(dead) == ''",
        "dead == __builtins__",
        "related(s, 'node', 'x')",
        "g('dead')",
        "t1",
    ],
)
def test_a_known_trick_is_refused(text: str) -> None:
    assert compiled(text, "node") is None
    assert compiled(text, "volume") is None


HUGE = [
    "free_bytes < " + " * ".join(["9e15"] * 25),
    "inodes_free < " + " * ".join(["9e15"] * 25),
    "inodes_free - " + " * ".join(["much"] * 25) + " < 5 and inodes_free > 3",
    "inodes_free < 1 / " + " / ".join(["9e15"] * 25),
    "inodes_free in (" + ", ".join(map(str, range(480))) + ")",
    "inodes_free < " + "9" * 4000,
    "inodes_free < 0x" + "F" * 4000,
    "inodes_free < 1e999",
    "inodes_free < -1e999",
    "age(dead) < '" + "9" * 200 + "d'",
    "free_bytes < '" + "9" * 200 + "PiB'",
    "delta(free_bytes, '" + "9" * 200 + "w') > 0",
    "fstype == '" + "x" * 4000 + "'",
    " or ".join(f"inodes_free == {number}" for number in range(160)),
    " and ".join(f"inodes_free - {number} < free_bytes - {number}" for number in range(60)),
    " or ".join(f"(free_bytes < {number} and size_bytes > {number})" for number in range(70)),
    "not (" * 38 + "dead" + ")" * 38,
    "-" * 38 + "free_bytes < 0",
    "dead" + " == True" * 200,
    "0 < " + " < ".join(["free_bytes"] * 150),
    " or ".join(["any(v.dead for v in node.volumes)"] * 100),
    "abs(" * 39 + "free_bytes" + ")" * 39 + " > 1",
]


@pytest.mark.parametrize("text", HUGE, ids=range(len(HUGE)))
def test_what_is_huge_is_refused_or_answered(text: str) -> None:
    assert harmless_and_answers(text, "volume")


WORDS = st.sampled_from(
    ["free_ratio < low", "free_bytes < size", "dead", "low", "5", "0.5", "5GiB", "10m", "true", "null", "VolumeX", "VolumeY", "*", "db-*", "page", "volume", "node", "~", "", "&a x", "!!python/object:os.system x", "{node.__class__}", "any(v.dead for v in volumes)"]
)  # fmt: skip
KEYS = st.sampled_from(
    ["rules", "constants", "set", "disable", "override", "where", "nodes", "labels", "alert", "resource", "when", "clear_when", "for", "severity", "summary", "low", "size", "VolumeX", "VolumeY", "id", "inhibited_by"]
)  # fmt: skip
YAML = st.recursive(
    WORDS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda rows: "[" + ", ".join(rows) + "]"),
        st.dictionaries(KEYS, inner, max_size=5).map(
            lambda rows: "{" + ", ".join(f"{key}: {value}" for key, value in rows.items()) + "}"
        ),
    ),
    max_leaves=10,
)
BASE = """
constants: {low: 0.05, size: 5GiB}
rules:
  - {alert: VolumeX, resource: volume, when: free_ratio < low, severity: info, summary: x}
  - {alert: VolumeY, resource: volume, when: free_bytes < size or dead, severity: info, summary: x}
"""


def loaded(*packs: str) -> RuleSet | None:
    """None when it is refused with at least one mistake; anything else goes on."""
    try:
        return load({"base.yaml": BASE} | {f"{number}.yaml": pack for number, pack in enumerate(packs)})
    except PackError as error:
        mistakes = error.mistakes
    assert mistakes
    return None


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["rules", "constants", "set", "disable", "override", "where"]), YAML, max_size=4
    )
)
def test_no_pack_is_worse_than_refused(entries: dict[str, str]) -> None:
    found = loaded("\n".join(f"{key}: {value}" for key, value in entries.items()))

    assert found is None or all(found.of_node(node).rules is not None for node in ("", "db-1", "x"))


CHANGE = st.fixed_dictionaries(
    {"nodes": st.sampled_from(["['*']", "['db-*']", "[x]"])},
    optional={
        "set": st.dictionaries(st.sampled_from(["low", "size"]), st.sampled_from(["0.1", "0", "1", "7GiB", "10m", "2"]), min_size=1),
        "override": st.dictionaries(
            st.sampled_from(["VolumeX", "VolumeY"]),
            st.dictionaries(
                st.sampled_from(["when", "clear_when", "for", "severity"]),
                st.sampled_from(["free_ratio < low", "free_bytes / low > 3", "free_ratio > low * 2", "dead", "1h", "page", "age(dead) > size"]),
                min_size=1,
            ),
            min_size=1,
        ),
        "disable": st.sampled_from(["[VolumeX]", "[VolumeY]"]),
    },
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.lists(CHANGE, min_size=1, max_size=3))
def test_what_was_accepted_for_some_nodes_is_put_together_for_all_of_them(
    changes: list[dict[str, Any]],
) -> None:
    """Each `where` was checked by itself; a node may be meant by all of them."""
    found = loaded(f"where: [{_plain(changes)}]")

    assert found is None or all(isinstance(found.of_node(node), RuleSet) for node in ("db-1", "x", "y"))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    return str(value)
