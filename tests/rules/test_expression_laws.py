"""Laws of the language, tried on random conditions: it never crashes, and unknown is carried on as Kleene has it."""

import random
from collections.abc import Callable
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from holdfast_rules.call import FUNCTIONS
from holdfast_rules.errors import ExpressionInvalid
from holdfast_rules.expression import compile_expression
from holdfast_rules.lower import lower, lower_all
from holdfast_rules.parse import parse
from holdfast_wire.fact import FACTS_OF
from holdfast_wire.message import Value
from tests.rules.resource import Resource

Facts = dict[str, Value]
Reference = Callable[[Facts], Any]
"""What a condition answers, written down naively: facts → value, None when unknown."""

BOOLS = ("writable", "dead", "network")
NUMBERS = ("free_bytes", "size_bytes", "free_ratio")
TEXTS = ("fstype", "mountpoint")
ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def known(compute: Callable[..., Any], *parts: Reference) -> Reference:
    """Unknown as soon as one part is."""

    def evaluate(facts: Facts) -> Any:
        values = [part(facts) for part in parts]
        return None if any(value is None for value in values) else compute(*values)

    return evaluate


def both(*parts: Reference) -> Reference:
    """Kleene's conjunction: the least of False < unknown < True."""
    rank = {False: 0, None: 1, True: 2}
    return lambda facts: min((part(facts) for part in parts), key=rank.__getitem__)


def either(*parts: Reference) -> Reference:
    rank = {False: 0, None: 1, True: 2}
    return lambda facts: max((part(facts) for part in parts), key=rank.__getitem__)


def fact(name: str) -> tuple[str, Reference]:
    return name, lambda facts: facts.get(name)


Written = tuple[str, Reference]

literal = st.one_of(st.integers(-20, 20), st.sampled_from([0.25, 0.5, 1.5])).map(
    lambda n: (repr(n), lambda _: n)
)
number = st.recursive(
    st.one_of(st.sampled_from(NUMBERS).map(fact), literal),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(
            lambda p: (f"({p[0][0]} + {p[1][0]})", known(lambda a, b: a + b, p[0][1], p[1][1]))
        ),
        st.tuples(inner, inner).map(
            lambda p: (f"({p[0][0]} - {p[1][0]})", known(lambda a, b: a - b, p[0][1], p[1][1]))
        ),
        st.tuples(inner, inner).map(
            lambda p: (f"({p[0][0]} * {p[1][0]})", known(lambda a, b: a * b, p[0][1], p[1][1]))
        ),
        st.tuples(inner, inner).map(
            lambda p: (f"({p[0][0]} / {p[1][0]})", known(lambda a, b: a / b if b else None, p[0][1], p[1][1]))
        ),
        inner.map(lambda x: (f"(-{x[0]})", known(lambda a: -a, x[1]))),
        inner.map(lambda x: (f"abs({x[0]})", known(abs, x[1]))),
        st.tuples(inner, inner).map(lambda p: (f"min({p[0][0]}, {p[1][0]})", known(min, p[0][1], p[1][1]))),
        st.tuples(inner, inner).map(lambda p: (f"max({p[0][0]}, {p[1][0]})", known(max, p[0][1], p[1][1]))),
    ),
    max_leaves=4,
)
comparison = st.tuples(number, st.sampled_from(sorted(ORDERS)), number).map(
    lambda p: (f"({p[0][0]} {p[1]} {p[2][0]})", known(ORDERS[p[1]], p[0][1], p[2][1]))
)
text = st.sampled_from(TEXTS).map(fact)
equality = st.one_of(
    st.tuples(text, st.sampled_from(["==", "!="]), st.sampled_from(["a", "b"])).map(
        lambda p: (f"({p[0][0]} {p[1]} '{p[2]}')", known(lambda a: ORDERS[p[1]](a, p[2]), p[0][1]))
    ),
    st.tuples(text, st.booleans()).map(
        lambda p: (
            f"({p[0][0]} {'not in' if p[1] else 'in'} ('a', 'c'))",
            known(lambda a: (a in ("a", "c")) is not p[1], p[0][1]),
        )
    ),
)
condition = st.recursive(
    st.one_of(st.sampled_from(BOOLS).map(fact), comparison, equality),
    lambda inner: st.one_of(
        inner.map(lambda x: (f"(not {x[0]})", known(lambda a: not a, x[1]))),
        st.lists(inner, min_size=2, max_size=4).map(
            lambda xs: ("(" + " and ".join(x[0] for x in xs) + ")", both(*(x[1] for x in xs)))
        ),
        st.lists(inner, min_size=2, max_size=4).map(
            lambda xs: ("(" + " or ".join(x[0] for x in xs) + ")", either(*(x[1] for x in xs)))
        ),
    ),
    max_leaves=8,
)
machines: st.SearchStrategy[Facts] = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.booleans() for name in BOOLS},
        "free_bytes": st.integers(0, 20),
        "size_bytes": st.integers(0, 20),
        "free_ratio": st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        **{name: st.sampled_from(["a", "b", "c"]) for name in TEXTS},
    },
)


def compiled_answer(source: str, facts: Facts) -> bool | None:
    """The answer of a condition. A literal 0 as divisor is refused at load; such an example shows nothing here."""
    resource = Resource(facts=facts)
    try:
        tree = parse(source, "volume")
    except ExpressionInvalid as error:
        messages = {fault.message for fault in error.faults}
        assume(messages != {"a division by 0 has no answer"})
        raise
    return lower(tree)(resource.facts.get, resource, 0.0)


def refused(text: str) -> ExpressionInvalid | None:
    """The refusal of a text, or None when it is a good condition. Anything else it may raise goes on."""
    try:
        compile_expression(text, "volume")
    except ExpressionInvalid as error:
        return error
    return None


@settings(max_examples=1500, deadline=None)
@given(condition, machines)
def test_compiled_answers_are_the_naive_ones(written: Written, facts: Facts) -> None:
    source, reference = written

    assert compiled_answer(source, facts) is reference(facts)


@settings(max_examples=400, deadline=None)
@given(st.lists(condition, min_size=2, max_size=5), st.sampled_from(["and", "or"]), machines, st.randoms())
def test_the_order_of_operands_does_not_matter(
    parts: list[Written], word: str, facts: Facts, chance: random.Random
) -> None:
    sources = [source for source, _ in parts]
    shuffled = list(sources)
    chance.shuffle(shuffled)

    assert compiled_answer(f" {word} ".join(shuffled), facts) is compiled_answer(
        f" {word} ".join(sources), facts
    )


@settings(max_examples=400, deadline=None)
@given(condition, machines, machines)
def test_more_evidence_never_takes_an_answer_back(written: Written, some: Facts, more: Facts) -> None:
    """Yes and no stay what they are when facts arrive that were unknown: only unknown may turn into either."""
    source, _ = written
    before = compiled_answer(source, some)

    assert before is None or compiled_answer(source, {**more, **some}) is before


@settings(max_examples=150, deadline=None)
@given(st.lists(condition, min_size=1, max_size=6), machines)
def test_judging_all_at_once_gives_the_same_answers(parts: list[Written], facts: Facts) -> None:
    resource = Resource(facts=facts)
    answers = [compiled_answer(source, facts) for source, _ in parts]
    trees = [parse(source, "volume") for source, _ in parts]
    words = {True: "holds", False: "clear", None: "unknown"}

    assert [str(f) for f in lower_all(trees)(resource.facts.get, resource, 0.0)] == [
        words[a] for a in answers
    ]


WORDS = [
    *FACTS_OF["volume"],
    *FUNCTIONS,
    *[
        "and",
        "or",
        "not",
        "in",
        "is",
        "if",
        "else",
        "for",
        "lambda",
        "await",
        "yield",
        "None",
        "True",
        "False",
        "true",
        "AND",
    ],
    *[
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        ";",
        ".",
        "..",
        "...",
        "<",
        "<=",
        ">",
        ">=",
        "==",
        "!=",
        "=",
        ":=",
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "**",
        "@",
        "&",
        "|",
        "^",
        "~",
        "!",
        "#",
        "$",
        "?",
        "\\",
        "'",
        '"',
        "'''",
        "`",
        "->",
        "<>",
        "!=",
    ],
    *[
        "0",
        "1",
        "-1",
        "0.5",
        "1e999",
        "9999999999999999999999",
        "0x1F",
        "1_000",
        "1j",
        "'6h'",
        '"1h30m"',
        "'x'",
        "b'x'",
        "f'{x}'",
        "r'\\'",
        "node.",
        "device.",
        "v",
        "v.dead",
        "v.size_bytes",
        "for v in",
        "volumes",
        "node.services",
        "any(v.dead for v in node.volumes)",
        "count(v for v in node.volumes if v.dead)",
        "x.y",
    ],
    *("\n", "\t", "\0", "\r", "\x0c", "\ufeff", "\ud800", "é", "ﬁ", "漢", "  "),
]


def assert_refused_or_answered(hostile: str) -> None:
    """A text is either a condition, which has an answer, or has faults with a place in it."""
    refusal = refused(hostile)
    resource = Resource(facts={"free_bytes": 1, "dead": True})

    if refusal is None:
        program = compile_expression(hostile, "volume").program
        assert program(resource.facts.get, resource, 0.0) in (True, False, None), repr(hostile)
    else:
        assert refusal.faults, repr(hostile)
        assert all(0 <= fault.offset <= len(hostile) for fault in refusal.faults), repr(hostile)


@settings(max_examples=2000, deadline=None)
@given(st.text(max_size=200))
def test_hostile_text_is_answered_with_faults_and_nothing_else(hostile: str) -> None:
    assert_refused_or_answered(hostile)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_words_of_the_language_in_any_order_are_answered_with_faults_or_judged(seed: int) -> None:
    """A thousand texts a seed, 10⁵ in all: what looks like a condition goes deeper than noise does."""
    chance = random.Random(seed)

    for _ in range(1000):
        words = chance.choices(WORDS, k=chance.randrange(26))
        assert_refused_or_answered(chance.choice(("", " ")).join(words))


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(
        [
            "(",
            "[",
            "{",
            "not ",
            "-",
            "~",
            "+",
            "lambda: ",
            "dead and (",
            "abs(",
            "a.",
            "a(",
            "1+",
            "f'{",
            "x if ",
        ]
    ),
    st.integers(1, 5000),
    st.sampled_from(["dead", "1", "", "x" * 50]),
    st.sampled_from([")", "]", "}", "", "}'"]),
)
def test_depth_and_length_are_refused_not_suffered(
    opening: str, count: int, middle: str, closing: str
) -> None:
    """The parser's own limits (RecursionError, MemoryError, too many brackets) must not get through."""
    refusal = refused(opening * count + middle + closing * count)

    assert refusal is None or refusal.faults
