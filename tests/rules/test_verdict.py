"""Verdicts: what follows from facts, alerts and what a resource rests on, and the laws no combination may break."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_rules.group import Group, Member, rule_group
from holdfast_rules.verdict import (
    Firing,
    Reason,
    Ruling,
    Standing,
    Value,
    Verdict,
    rule,
    worst,
)

RANK = list(Verdict).index
GOOD_VOLUME: dict[str, Value] = {"durability_class": 2, "writable": True}
DATA: dict[str, Value] = {"role": "data", "required_class": 2}


def firing(effect: Verdict, rule_id: str = "R-06") -> Firing:
    return Firing(rule_id=rule_id, alert="Something", effect=effect, text=f"{rule_id} fires", since=1.0)


def volume(*alerts: Firing, below: Sequence[Ruling] = (), **facts: Value) -> Ruling:
    """One with a database's data on it."""
    standing = Standing(
        kind="volume", name="/srv", facts={**GOOD_VOLUME, **facts}, firing=alerts, required_class=2
    )
    return ruled(rule(standing, below))


def memory(required: int | None = None, *alerts: Firing) -> Ruling | None:
    facts: dict[str, Value] = {"durability_class": 0, "writable": True}
    return rule(Standing(kind="volume", name="/run/db", facts=facts, firing=alerts, required_class=required))


def path(on: Sequence[Ruling], *alerts: Firing, **facts: Value) -> Ruling | None:
    standing = Standing(kind="state_path", name="pg:/srv/db", facts={**DATA, **facts}, firing=alerts)
    return rule(standing, on)


def ruled(ruling: Ruling | None) -> Ruling:
    assert ruling is not None
    return ruling


def test_a_volume_of_a_known_class_without_complaint_is_durable() -> None:
    ruling = volume()

    assert (ruling.verdict, ruling.reasons, ruling.durability_class) == (Verdict.DURABLE, (), 2)


@pytest.mark.parametrize("required", [None, 0])
def test_memory_without_state_is_not_judged(required: int | None) -> None:
    """`durable` would be a lie, and `not_durable` a complaint about every /tmp."""
    assert memory(required) is None


def test_memory_with_an_alert_is_judged_by_the_alert() -> None:
    """A full /tmp stops services, whatever it keeps."""
    assert ruled(memory(None, firing(Verdict.AT_RISK))).verdict is Verdict.AT_RISK


@pytest.mark.parametrize(("own", "required"), [(0, 1), (0, 2), (1, 2)])
def test_a_volume_below_what_state_on_it_needs_is_not_durable(own: int, required: int) -> None:
    standing = Standing(
        kind="volume",
        name="/srv",
        facts={**GOOD_VOLUME, "durability_class": own},
        required_class=required,
    )
    ruling = ruled(rule(standing))

    assert ruling.cause is not None
    assert (ruling.verdict, ruling.cause.text, ruling.required_class) == (
        Verdict.NOT_DURABLE,
        f"it has class D{own}, and state on it needs D{required}",
        required,
    )


def test_a_log_beside_a_database_s_data_is_judged_by_its_own_need() -> None:
    """A host's own disk is right for logs, whoever else is wrong to be there."""
    ruling = ruled(path([volume(durability_class=1)], role="log", required_class=1))

    assert (ruling.verdict, ruling.reasons) == (Verdict.DURABLE, ())


def test_a_backup_on_a_poor_medium_is_a_risk_for_another_day() -> None:
    """What it is a backup of is still there; but a backup that was lost, as its volume was, is lost."""
    poor = ruled(path([volume(durability_class=1)], role="backup", required_class=2))
    lost = ruled(path([volume(firing(Verdict.LOST))], role="backup", required_class=2))

    assert (poor.verdict, lost.verdict) == (Verdict.AT_RISK, Verdict.LOST)


def test_a_path_that_requires_nothing_may_lie_in_memory() -> None:
    """What lies there is not judged, and that is no missing evidence."""
    assert ruled(path([], role="log", required_class=0, mountpoint="/run/db")).verdict is Verdict.DURABLE


@pytest.mark.parametrize("missing", ["durability_class", "writable"])
def test_missing_evidence_is_unknown_and_says_which(missing: str) -> None:
    """No data is never health."""
    facts = {name: value for name, value in GOOD_VOLUME.items() if name != missing}
    ruling = ruled(rule(Standing(kind="volume", name="/srv", facts=facts)))

    assert ruling.verdict is Verdict.UNKNOWN
    assert ruling.cause is not None
    assert ruling.cause.text.startswith(
        {"durability_class": "its durability class", "writable": "whether it takes writes"}[missing]
    )


@pytest.mark.parametrize(
    ("facts", "integrity"),
    [
        ({}, "unchecked"),
        ({"scrub_age_seconds": 34 * 86_400.0, "scrub_uncorrectable_errors": 0}, "checked"),
        ({"scrub_age_seconds": 36 * 86_400.0, "scrub_uncorrectable_errors": 0}, "unchecked"),
        ({"scrub_age_seconds": 86_400.0}, "unchecked"),
        ({"scrub_age_seconds": 86_400.0, "scrub_uncorrectable_errors": 0}, "checked"),
        ({"scrub_age_seconds": 86_400.0, "scrub_uncorrectable_errors": 1}, "corrupt"),
        ({"scrub_age_seconds": 86_400.0, "witness_corrupt": True}, "corrupt"),
    ],
)
def test_content_is_checked_for_as_long_as_a_scrub_speaks_for_it(
    facts: dict[str, Value], integrity: str
) -> None:
    """Damage outvotes the date of the check, and a check whose finding is not known has checked nothing."""
    standing = Standing(kind="volume", name="/srv", facts={**GOOD_VOLUME, **facts})

    assert ruled(rule(standing)).integrity == integrity


@pytest.mark.parametrize(
    ("pool", "integrity"),
    [
        ({"pool_scrub_age_seconds": 60.0, "pool_data_errors": 0}, "checked"),
        ({"pool_scrub_age_seconds": 60.0}, "unchecked"),
        ({"pool_scrub_age_seconds": 36 * 86_400.0, "pool_data_errors": 0}, "unchecked"),
        ({"pool_scrub_age_seconds": 60.0, "pool_data_errors": 2}, "corrupt"),
    ],
)
def test_what_lies_on_a_pool_is_as_whole_as_the_pool(pool: dict[str, Value], integrity: str) -> None:
    """Up to the service; and a scrub of its own speaks for a volume, but not against damage below."""
    device = ruled(rule(Standing(kind="device", name="tank", facts=pool)))
    above = ruled(path([volume(below=[device])]))
    own = volume(below=[device], scrub_age_seconds=60.0, scrub_uncorrectable_errors=0)

    assert above.integrity == integrity
    assert own.integrity == ("corrupt" if integrity == "corrupt" else "checked")


def test_a_service_is_checked_when_all_its_state_is() -> None:
    scrubbed = volume(scrub_age_seconds=60.0, scrub_uncorrectable_errors=0)
    checked, unchecked = ruled(path([scrubbed])), ruled(path([volume()]))
    service = Standing(kind="service", name="pg", facts={"stateful": True})

    assert ruled(rule(service, [checked, checked])).integrity == "checked"
    assert ruled(rule(service, [checked, unchecked])).integrity == "unchecked"


@pytest.mark.parametrize("effect", list(Verdict)[1:])
def test_an_alert_does_to_its_resource_what_its_rule_says(effect: Verdict) -> None:
    ruling = volume(firing(effect))

    assert (ruling.verdict, ruling.cause) == (
        effect,
        Reason(
            verdict=effect,
            kind="volume",
            resource="/srv",
            rule_id="R-06",
            alert="Something",
            text="R-06 fires",
            since=1.0,
        ),
    )


@pytest.mark.parametrize(
    ("have", "required", "verdict"),
    [
        (0, 2, Verdict.NOT_DURABLE),
        (1, 2, Verdict.NOT_DURABLE),
        (2, 2, Verdict.DURABLE),
        (3, 2, Verdict.DURABLE),
        (2, 3, Verdict.NOT_DURABLE),
    ],
)
def test_a_path_needs_a_volume_of_its_role_s_class(have: int, required: int, verdict: Verdict) -> None:
    """Perfect health of the wrong medium is no durability."""
    ruling = ruled(path([volume(durability_class=have)], required_class=required))

    assert (ruling.verdict, ruling.durability_class, ruling.required_class) == (verdict, have, required)


def test_a_path_whose_volume_is_not_known_is_unknown() -> None:
    assert ruled(path([])).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("role", ["temp", "cache", "runtime"])
def test_what_may_vanish_is_not_judged(role: str) -> None:
    """tempdb belongs on the temporary disk; swap does, too."""
    assert path([volume(firing(Verdict.LOST), durability_class=0)], role=role, required_class=0) is None


def test_a_path_that_is_only_guessed_at_is_not_judged() -> None:
    """What nobody explains is no claim about state, so it cannot be a broken one."""
    assert path([volume(durability_class=0)], confidence="low") is None


def test_a_log_on_a_lost_volume_is_a_risk_and_no_loss() -> None:
    ruling = ruled(path([volume(firing(Verdict.LOST))], role="log", required_class=1))

    assert ruling.verdict is Verdict.AT_RISK


def test_a_device_nothing_is_heard_of_is_unknown() -> None:
    """It was known once; silence is no health."""
    ruling = ruled(rule(Standing(kind="device", name="sdb", facts={})))

    assert (ruling.verdict, [reason.text for reason in ruling.reasons]) == (
        Verdict.UNKNOWN,
        ["nothing is heard of it"],
    )


def test_the_cause_is_the_deepest_of_the_worst() -> None:
    """One dead disk is one thing to mend, whatever stands on it."""
    disk = ruled(
        rule(Standing(kind="device", name="sdb", facts={}, firing=[firing(Verdict.AT_RISK, "R-28")]))
    )
    ruling = ruled(
        path([volume(firing(Verdict.AT_RISK, "R-06"), below=[disk])], firing(Verdict.AT_RISK, "R-32"))
    )

    assert [reason.rule_id for reason in ruling.reasons] == ["R-28", "R-06", "R-32"]


def test_a_service_is_as_bad_as_its_worst_path() -> None:
    good, bad = ruled(path([volume()])), ruled(path([volume(durability_class=0)]))
    ruling = ruled(rule(Standing(kind="service", name="pg", facts={}), [good, bad]))

    assert (ruling.verdict, ruling.durability_class, ruling.required_class) == (Verdict.NOT_DURABLE, 0, 2)


def test_a_service_without_state_has_no_verdict() -> None:
    """cron is neither durable nor not."""
    assert (
        rule(Standing(kind="service", name="cron", facts={"up": True}, firing=[firing(Verdict.AT_RISK)]))
        is None
    )


def test_a_service_that_keeps_state_nobody_knows_where_is_unknown() -> None:
    ruling = ruled(rule(Standing(kind="service", name="pg", facts={"stateful": True})))

    assert ruling.verdict is Verdict.UNKNOWN


def test_a_node_is_as_bad_as_its_worst_service_and_unknown_when_silent() -> None:
    service = ruled(rule(Standing(kind="service", name="pg", facts={}), [ruled(path([volume()]))]))
    heard = ruled(rule(Standing(kind="node", name="n", facts={"reporting": True}), [service]))
    silent = ruled(rule(Standing(kind="node", name="n", facts={"reporting": False}), [service]))

    assert (heard.verdict, silent.verdict) == (Verdict.DURABLE, Verdict.UNKNOWN)


def test_evidence_that_fades_leaves_word_of_what_was_worse() -> None:
    """It was not durable when it was last looked at, and nobody has mended it since."""
    before = volume(firing(Verdict.NOT_DURABLE))
    faded = ruled(rule(Standing(kind="volume", name="/srv", facts={}), last=before))
    later = ruled(rule(Standing(kind="volume", name="/srv", facts={}), last=faded))

    assert [(r.verdict, r.last) for r in (faded, later)] == [(Verdict.UNKNOWN, Verdict.NOT_DURABLE)] * 2


def test_a_lost_tail_makes_the_flush_a_liar_all_the_way_up() -> None:
    lying = volume(firing(Verdict.LOST, "R-12"), witness_lost=True, witness_loss="lost_tail")
    service = ruled(rule(Standing(kind="service", name="pg", facts={}), [ruled(path([lying]))]))

    assert (lying.flush, service.flush) == ("lying", "lying")


def test_flush_is_honest_only_where_it_was_tested() -> None:
    assert (volume().flush, volume(durability_tested=True).flush) == ("unknown", "honest")


# ---- groups --------------------------------------------------------------------------------------------------------

GROUP = Group(name="etcd", members=(("a", "etcd"), ("b", "etcd"), ("c", "etcd")), copies_required=3, quorum=2)


def member(node: str, verdict: Verdict | None, domain: str = "") -> Member:
    ruling = None if verdict is None else Ruling(kind="service", resource="etcd", verdict=verdict)
    return Member(node=node, service="pg.service", ruling=ruling, fault_domain=domain)


D, U, A, N, L = list(Verdict)


@pytest.mark.parametrize(
    ("verdicts", "domains", "expected"),
    [
        ((D, D, D), "123", D),
        ((N, N, N), "123", D),  # copies lift media that do not last
        ((D, D, A), "123", A),
        ((D, A, A), "123", A),
        ((A, A, A), "123", A),
        ((D, D, L), "123", A),  # a copy survives
        ((L, L, L), "123", L),
        ((D, D, U), "123", U),
        ((U, U, U), "123", U),
        ((D, D, None), "123", U),
        ((D, D, D), "112", A),  # two copies on one host are one
        ((D, D, D), "111", A),
    ],
)
def test_a_group_is_what_its_copies_in_distinct_fault_domains_are(
    verdicts: tuple[Verdict | None, ...], domains: str, expected: Verdict
) -> None:
    members = [
        member(node, verdict, f"zone-{domain}")
        for node, verdict, domain in zip("abc", verdicts, domains, strict=True)
    ]

    assert rule_group(GROUP, members).verdict is expected


# ---- laws ----------------------------------------------------------------------------------------------------------

EFFECTS = st.sampled_from(list(Verdict)[1:])
FIRINGS = st.lists(st.builds(firing, EFFECTS, st.sampled_from(["R-1", "R-2", "R-3"])), max_size=4)
FACTS = st.fixed_dictionaries(
    {},
    optional={
        "durability_class": st.integers(0, 4),
        "writable": st.booleans(),
        "role": st.sampled_from(["data", "wal", "log", "temp"]),
        "required_class": st.integers(0, 3),
        "stateful": st.booleans(),
        "reporting": st.booleans(),
    },
)
KINDS = st.sampled_from(["volume", "state_path", "service", "node"])
RULINGS = st.builds(
    Ruling,
    kind=st.sampled_from(["device", "volume", "state_path", "service"]),
    resource=st.sampled_from(["x", "y"]),
    verdict=st.just(Verdict.DURABLE),
    durability_class=st.none() | st.integers(0, 4),
) | st.builds(
    lambda kind, verdict: Ruling(
        kind=kind,
        resource="z",
        verdict=verdict,
        reasons=(Reason(verdict=verdict, kind=kind, resource="z", text="why"),),
    ),
    st.sampled_from(["device", "volume", "state_path", "service"]),
    EFFECTS,
)


def rank(ruling: Ruling | None) -> int:
    """Nothing to say ranks with unknown: it is no praise."""
    return RANK(Verdict.UNKNOWN if ruling is None else ruling.verdict)


@given(KINDS, FACTS, FIRINGS, st.lists(RULINGS, max_size=3), EFFECTS)
def test_more_bad_evidence_never_improves_a_verdict(
    kind: str, facts: dict[str, Value], alerts: list[Firing], below: list[Ruling], effect: Verdict
) -> None:
    without = rule(Standing(kind=kind, name="x", facts=facts, firing=alerts), below)
    with_more = rule(
        Standing(kind=kind, name="x", facts=facts, firing=[*alerts, firing(effect, "R-9")]), below
    )

    assert without is None or with_more is None or rank(with_more) >= rank(without)


@given(KINDS, FACTS, FIRINGS, st.lists(RULINGS, max_size=3), st.data())
def test_losing_evidence_never_makes_anything_durable(
    kind: str, facts: dict[str, Value], alerts: list[Firing], below: list[Ruling], data: st.DataObject
) -> None:
    """Whatever falls silent, what was not durable is not called durable for it."""
    if not facts:
        return
    gone = data.draw(st.sampled_from(sorted(facts)))
    before = rule(Standing(kind=kind, name="x", facts=facts, firing=alerts), below)
    fewer = {name: value for name, value in facts.items() if name != gone}
    after = rule(Standing(kind=kind, name="x", facts=fewer, firing=alerts), below)

    assert not (
        before is not None
        and before.verdict is not Verdict.DURABLE
        and after is not None
        and after.verdict is Verdict.DURABLE
    )


@given(KINDS, FACTS, FIRINGS, st.lists(RULINGS, max_size=3), st.randoms())
def test_the_order_of_evidence_does_not_matter(
    kind: str, facts: dict[str, Value], alerts: list[Firing], below: list[Ruling], entropy: object
) -> None:
    shuffled_alerts, shuffled_below = list(alerts), list(below)
    entropy.shuffle(shuffled_alerts)  # type: ignore[attr-defined]  # hypothesis hands in a random.Random
    entropy.shuffle(shuffled_below)  # type: ignore[attr-defined]  # as above
    once = rule(Standing(kind=kind, name="x", facts=facts, firing=alerts), below)
    again = rule(Standing(kind=kind, name="x", facts=facts, firing=shuffled_alerts), shuffled_below)

    assert once == again


@given(st.lists(st.sampled_from(list(Verdict)), min_size=1))
def test_the_worst_of_verdicts_is_one_of_them_and_no_other_is_worse(verdicts: list[Verdict]) -> None:
    assert worst(verdicts) in verdicts
    assert all(RANK(verdict) <= RANK(worst(verdicts)) for verdict in verdicts)
