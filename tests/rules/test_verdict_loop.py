"""Verdicts are made of alerts: a rule that asks for one must not change one."""

import pytest

from holdfast_rules import PackError, load

PLACED = """
rules:
  - alert: Risky
    resource: {kind}
    when: {when}
    severity: ticket
    verdict: at_risk
    summary: risky
"""


def refused(text: str) -> list[str]:
    with pytest.raises(PackError) as caught:
        load({"a.yaml": text})
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("kind", "when"),
    [
        ("service", 'verdict == "at_risk"'),
        ("node", "any(s.verdict == 'lost' for s in services)"),
        ("state_path", 'volume.verdict == "lost"'),
        ("node", "count(s for s in services if s.verdict == 'lost') > 1"),
    ],
)
def test_a_rule_that_asks_for_a_verdict_and_changes_one_is_refused_with_its_place(
    kind: str, when: str
) -> None:
    """It could hold itself up for ever: at risk, because it is at risk."""
    [said] = refused(PLACED.format(kind=kind, when=when))

    assert said == (
        "a.yaml:7:14: Risky: a rule that asks for a verdict cannot change one: take `verdict:` out, or ask for the facts "
        "behind it"
    )


def test_a_rule_that_only_asks_for_a_verdict_may() -> None:
    """Whoever wants a page for lost state anywhere writes one."""
    text = PLACED.format(kind="service", when='verdict == "lost"').replace("    verdict: at_risk\n", "")

    assert load({"a.yaml": text}).by_name["Risky"].verdict == ""


def test_an_override_cannot_close_the_loop_either() -> None:
    """The verdict comes from another pack than the condition."""
    text = PLACED.format(kind="service", when='verdict == "lost"').replace("    verdict: at_risk\n", "")
    with pytest.raises(PackError) as caught:
        load({"a.yaml": text, "b.yaml": "override:\n  Risky: {verdict: at_risk}\n"})

    assert str(caught.value).startswith(
        "b.yaml:2:20: Risky: a rule that asks for a verdict cannot change one"
    )
