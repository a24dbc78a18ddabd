"""The rule language: what conditions answer, and which texts are no conditions."""

import pytest

from holdfast_rules.errors import ExpressionInvalid
from holdfast_rules.expression import compile_expression
from holdfast_wire.message import Value
from tests.rules.resource import Resource

FACTS: dict[str, Value] = {
    "writable": True,
    "dead": False,
    "free_ratio": 0.25,
    "free_bytes": 250,
    "size_bytes": 1000,
    "fstype": "ext4",
    "mountpoint": "/srv",
}


def answer(text: str, facts: dict[str, Value] = FACTS, kind: str = "volume", **more: object) -> bool | None:
    resource = Resource(kind=kind, facts=dict(facts))
    for name, value in more.items():
        setattr(resource, name, value)
    return compile_expression(text, kind).program(resource.facts.get, resource, 1000.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("writable", True),
        ("not writable", False),
        ("free_ratio < 0.3", True),
        ("free_ratio <= 0.25", True),
        ("free_ratio > 0.25", False),
        ("free_ratio >= 0.25 and writable", True),
        ("0.2 < free_ratio < 0.3", True),
        ("0.2 < free_ratio < 0.25", False),
        ("free_bytes / size_bytes == 0.25", True),
        ("size_bytes - free_bytes > 700", True),
        ("free_bytes * 4 == size_bytes", True),
        ("free_bytes + 1 > 250", True),
        ("-free_bytes < -249", True),
        ("abs(free_bytes - size_bytes) == 750", True),
        ("min(free_bytes, size_bytes, 7) == 7", True),
        ("max(free_bytes, size_bytes) == 1000", True),
        ('fstype == "ext4"', True),
        ("fstype != 'xfs'", True),
        ('fstype in ("xfs", "ext4")', True),
        ('fstype not in ["xfs", "ext4"]', False),
        ("writable == False", False),
        ("dead or writable and free_ratio < 0.1", False),
        ("(dead or writable) and free_ratio < 0.3", True),
        ("writable\n  and\n\tfree_ratio < 0.3", True),
        ('mountpoint == "/mnt/50% #1 & R|D!" or writable', True),
        ('mountpoint == "C:\\\\"', False),
        ("'it\\'s # 1' == mountpoint or writable", True),
        ("volume.free_ratio < 0.3", True),
    ],
)
def test_a_condition_answers_what_python_would(text: str, expected: bool) -> None:
    assert answer(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("not network", None),
        ("network and dead", False),
        ("dead and network", False),
        ("network and writable", None),
        ("network or writable", True),
        ("writable or network", True),
        ("network or dead", None),
        ("inodes < 5", None),
        ("inodes - 5 < free_bytes", None),
        ("inodes * 0 == 0", None),
        ("min(inodes, 1) < 2", None),
        ("abs(inodes - 7) > 1", None),
        ('source == "sda1"', None),
        ('source in ("sda1", "sdb1")', None),
        ("0 < free_ratio < inodes_free_ratio", None),
        ("0.5 < free_ratio < inodes_free_ratio", False),
        ("free_bytes / filesystem_errors_total > 1", None),
        ("node.reporting", None),
        ("age(free_bytes) > 5", None),
    ],
)
def test_what_is_absent_is_unknown_and_only_the_other_side_can_decide(
    text: str, expected: bool | None
) -> None:
    assert answer(text) is expected


def test_division_by_zero_is_unknown_not_a_crash() -> None:
    assert answer("size_bytes / free_bytes > 1", {"size_bytes": 10, "free_bytes": 0}) is None


def test_numbers_that_outgrow_floats_are_unknown() -> None:
    text = " * ".join(["size_bytes"] * 25) + " > 1"

    assert answer(text, {"size_bytes": 2**53}) is None


def test_facts_of_the_node_are_asked_by_its_name() -> None:
    relatives = {"node": {"boot_dirty": True, "session": "lost"}}

    assert answer("node.boot_dirty and node.session == 'lost'", relatives=relatives) is True
    assert answer("node.boot_dirty and node.reporting", relatives=relatives) is None


def test_age_counts_from_the_last_observation_whether_fresh_or_not() -> None:
    assert answer("age(free_bytes) > 299", {}, observed={"free_bytes": 700.0}) is True
    assert answer("age(free_bytes) > 300", {}, observed={"free_bytes": 700.0}) is False


def test_an_expression_tells_what_it_reads_and_how_far_back() -> None:
    text = 'node.reporting and delta(free_bytes, "10m") < 0 and rate(free_bytes, "1h") < age(fstype)'

    expression = compile_expression(text, "volume")

    assert expression.names == ("node.reporting", "free_bytes", "fstype")
    assert expression.windows == {"free_bytes": 3600.0}
    assert expression.timed
    shorter_last = 'delta(free_bytes, "1h") < 0 and delta(free_bytes, "10m") < 0'
    assert compile_expression(shorter_last, "volume").windows == {"free_bytes": 3600.0}


def faults(text: str, kind: str = "volume") -> list[tuple[str, str, str]]:
    """Each fault: the text from its place on, its message, what was probably meant."""
    with pytest.raises(ExpressionInvalid) as caught:
        compile_expression(text, kind)
    return [(text[fault.offset :], fault.message, fault.nearest) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("text", "place", "words", "nearest"),
    [
        (
            "writable and free_ration < 0.1",
            "free_ration < 0.1",
            "`free_ration` is not a fact",
            "`free_ratio`",
        ),
        ("'ü' == fstype and ded", "ded", "`ded` is not a fact", "`dead`"),
        ("session == 'lost'", "session == 'lost'", "`session` is not a fact", "`node.session`"),
        ("main_pid > 1", "main_pid > 1", "`main_pid` is a fact of a service", ""),
        (
            "node.sesion == 'lost'",
            "node.sesion == 'lost'",
            "`sesion` is not a fact of a node",
            "`node.session`",
        ),
        ("service.up", "service.up", "a volume has no one service", ""),
        ("nod.reporting", "nod.reporting", "a volume has no one nod", "`node.`"),
        ("free_ratio < 'x'", "free_ratio < 'x'", "is a number and `'x'` is text", ""),
        ("dead > 0", "dead > 0", "`dead` is yes or no and `0` is a number", ""),
        ("fstype < 'x'", "fstype < 'x'", "`fstype` is text, which has no order", ""),
        ("dead < writable", "dead < writable", "which has no order", ""),
        ("dead + 1 > 0", "dead + 1 > 0", "`dead` is yes or no; `+` wants a number", ""),
        ("not free_ratio", "free_ratio", "`free_ratio` is a number; `not` wants yes or no", ""),
        ("dead and free_ratio", "free_ratio", "`and` wants yes or no", ""),
        ("free_ratio", "free_ratio", "a condition is yes or no, and this is a number", ""),
        ("fstype", "fstype", "this is text", ""),
        ("node.session == 'lsot'", "'lsot'", "`session` is never 'lsot'", "'lost'"),
        ("node.session in ('lost', 'stoped')", "'stoped')", "`session` is never 'stoped'", "'stopped'"),
        ("fstype in (1, 'x')", "1, 'x')", "`1` is a number, not text", ""),
        ("fstype in mountpoint", "mountpoint", "`in` wants values in brackets", ""),
        ("dead is True", "dead is True", "write `==` or `!=`", ""),
        ("free_ratio ** 2 < 1", "free_ratio ** 2 < 1", "+ - * / and nothing else", ""),
        ("free_bytes / 0 > 1", "0 > 1", "a division by 0 has no answer", ""),
        ("dead if dead else dead", "dead if dead else dead", "not part of the rule language", ""),
        ("[x for x in fstype]", "[x for x in fstype]", "not part of the rule language", ""),
        ("dead.__class__", "dead.__class__", "a volume has no one dead", ""),
        ("fstype.upper() == 'X'", "fstype.upper() == 'X'", "not part of the rule language", ""),
        ("exec('1')", "exec('1')", "there is no function `exec`", ""),
        ("mxa(free_ratio, 1) < 1", "mxa(free_ratio, 1) < 1", "there is no function `mxa`", "`max`"),
        ("delta > 1", "delta > 1", "`delta` is a function", ""),
        ("delta(free_bytes) > 1", "delta(free_bytes) > 1", 'write `delta(fact, "10m")`', ""),
        ("delta(free_bytes, 600) > 1", "600) > 1", "the window is a duration in quotes", ""),
        ("delta(free_bytes, '10x') > 1", "'10x') > 1", "'10x' is not a duration", ""),
        ("delta(free_bytes, '0s') > 1", "'0s') > 1", "a window of no length", ""),
        (
            "delta(free_bytes + 1, '10m') > 1",
            "free_bytes + 1, '10m') > 1",
            "one of the volume's own facts",
            "",
        ),
        ("delta(node.dirty_bytes, '1h') > 1", "node.dirty_bytes, '1h') > 1", "own facts", ""),
        ("delta(dead, '1h') > 1", "dead, '1h') > 1", "`delta` wants a number", ""),
        ("changed(fstype, '1h')", "fstype, '1h')", "`changed` wants a number", ""),
        ("abs(free_ratio, 1) < 1", "abs(free_ratio, 1) < 1", "`abs` wants one number", ""),
        ("max(free_ratio) < 1", "max(free_ratio) < 1", "`max` wants two numbers or more", ""),
        ("min(*fstype) < 1", "min(*fstype) < 1", "plain arguments only", ""),
        ("free_bytes < 9e15 * 99999999999999999", "99999999999999999", "a number this large", ""),
        ("true and dead", "true and dead", "`true` is written `True`", ""),
        ("dead && writable", "&& writable", "write `and`", ""),
        ("!dead", "!dead", "write `not`", ""),
        ("free_ratio < 5%", "%", "a ratio lies between 0 and 1", ""),
        ("dead # really", "# really", "a comment belongs in the YAML", ""),
        ("dead \\", "\\", "a backslash", ""),
        ("'''a''' == fstype", "'''a''' == fstype", "one pair of quotation marks", ""),
        ("dead\0", "\0", "may not stand here", ""),
        ("   ", "   ", "the condition is empty", ""),
        ("not " * 60 + "dead", "not " * 19 + "dead", "nested too deeply", ""),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_was_meant(
    text: str, place: str, words: str, nearest: str
) -> None:
    [(at, message, near)] = faults(text)

    assert (at, near) == (place, nearest)
    assert words in message


@pytest.mark.parametrize(
    "text", ["dead and", "(dead", "dead) or (dead", "dead writable", "free_bytes < 5GB", "a\ud800"]
)
def test_what_python_cannot_read_is_refused_in_its_words(text: str) -> None:
    [(_, message, _)] = faults(text)

    assert message.startswith(("not an expression: ", "the character"))


def test_what_is_too_long_is_refused_before_it_is_read() -> None:
    spaced = "dead" + " " * 5000 + "or writable"

    assert faults(spaced) == [
        (spaced[4096:], "the condition has 5015 characters; 4096 are the most there may be", ""),
    ]
    [(_, message, _)] = faults(" or ".join(["dead"] * 501))
    assert message == "too long"


def test_all_mistakes_come_at_once_in_the_order_of_their_place() -> None:
    found = faults("free_ration < 0.1 and dead > 1 and mxa(1, 2) > 1")

    assert [place.split()[0] for place, _, _ in found] == ["free_ration", "dead", "mxa(1,"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("free_ratio < 5", "`free_ratio < 5` always holds: free_ratio lies between 0 and 1"),
        ("writable and free_ratio > 5", "`free_ratio > 5` never holds: free_ratio lies between 0 and 1"),
        ("free_ratio >= 0", "`free_ratio >= 0` always holds: free_ratio lies between 0 and 1"),
        ("free_bytes < 0", "`free_bytes < 0` never holds"),
        ("filesystem_errors_total >= 0", "`filesystem_errors_total >= 0` always holds"),
        ("writable and not writable", "`writable and not writable` never holds"),
        ("dead or not dead", "`dead or not dead` always holds"),
        ("free_bytes > 9 and free_bytes < 3", "`free_bytes > 9 and free_bytes < 3` never holds"),
        ("free_bytes > 3 or free_bytes < 9", "`free_bytes > 3 or free_bytes < 9` always holds"),
        ("inodes_free > 5 and inodes_free < 6", "`inodes_free > 5 and inodes_free < 6` never holds"),
        ("5 < inodes_free < 5", "`5 < inodes_free < 5` never holds"),
        ("fstype == 'a' and fstype == 'b'", "`fstype == 'a' and fstype == 'b'` never holds"),
        ("fstype != 'a' or fstype != 'b'", "`fstype != 'a' or fstype != 'b'` always holds"),
        ("node.session in ('connected', 'lost', 'stopped')", "always holds"),
        ("free_bytes - 5 > 3 and free_bytes - 5 < 2", "never holds"),
        ("delta(filesystem_errors_total, '1h') >= 0", "always holds"),
        ("time_to_zero(free_bytes, '6h') < 0", "never holds"),
        ("abs(free_bytes - 5) < 0", "never holds"),
        ("2 < 1", "`2 < 1` never holds"),
        ("False", "the condition never holds"),
        ("dead or True", "`dead or True` always holds"),
        ("free_bytes < size_bytes and not (free_bytes < size_bytes)", "never holds"),
    ],
)
def test_a_condition_that_cannot_do_its_work_is_refused(text: str, part: str) -> None:
    [(_, message, _)] = faults(text)

    assert part in message


@pytest.mark.parametrize(
    "text",
    [
        "True",
        "free_ratio < 0.5",
        "free_ratio == 0",
        "free_ratio <= 0",
        "free_ratio < 1",
        "inodes_free > 5 and inodes_free < 7",
        "free_ratio > 0.5 and free_ratio < 0.6",
        "fstype != 'a' and fstype != 'b'",
        "node.session != 'lost' and node.session != 'stopped'",
        "free_bytes < size_bytes or free_bytes > size_bytes",
        "delta(free_bytes, '1h') < 0",
        "writable == dead",
    ],
)
def test_a_condition_that_can_go_either_way_is_let_through(text: str) -> None:
    assert compile_expression(text, "volume").source == text
