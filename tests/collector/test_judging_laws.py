"""Asking only the rules that a change concerns gives the answers that asking all of them would."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_collector.core.affected import Affected
from holdfast_collector.core.node import ResourceSubject
from holdfast_rules import Finding
from holdfast_wire import Section
from holdfast_wire.message import Value
from tests.collector.fleet import WARM, Agent, Desk
from tests.collector.test_core_relations import said
from tests.rules.resource import Resource

RULES = """
rules:
  - {alert: VolumeLow, id: L-01, resource: volume, when: free_ratio < 0.5 and writable, severity: page, summary: x}
  - {alert: VolumeDead, id: L-02, resource: volume, when: dead or not writable, severity: page, summary: x}
  - {alert: VolumeOnBadDevice, id: L-03, resource: volume, when: device.kernel_data_loss_total > 0 or dead, severity: page,
     summary: x}
  - {alert: PathOnDeadVolume, id: L-04, resource: state_path, when: volume.dead and required_class >= 2, severity: page,
     summary: x}
  - {alert: VolumeGrew, id: L-05, resource: volume, when: 'delta(free_bytes, "10m") > 40', severity: info, summary: x}
  - {alert: AnyDead, id: L-06, resource: node, when: any(v.dead for v in volumes), severity: page, summary: x}
"""
PATH = "a.service:/a/data"


def facts(**choices: st.SearchStrategy[Value]) -> st.SearchStrategy[dict[str, Value]]:
    """Any of the facts may be missing: a probe may have been unable to tell."""
    return st.fixed_dictionaries({}, optional=choices)


VOLUME = facts(
    free_ratio=st.sampled_from([0.1, 0.9]),
    free_bytes=st.sampled_from([10, 100]),
    writable=st.booleans(),
    dead=st.booleans(),
)
ON_A: dict[str, Value] = {"required_class": 2, "mountpoint": "/a"}
SAID = st.fixed_dictionaries(
    {
        "volumes": st.dictionaries(st.sampled_from(["/a", "/b"]), VOLUME),
        # Often the same as before: then only the change of its volume calls for its rules.
        "path": st.sampled_from([ON_A, ON_A, {**ON_A, "mountpoint": "/b"}, {"mountpoint": "/a"}, {}]),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(SAID, min_size=1, max_size=12))
def test_what_fires_is_what_all_rules_asked_of_all_resources_would_say(
    reports: list[dict[str, dict[str, Any]]],
) -> None:
    """A change of one fact must not leave an answer standing that rests on it, here or on another resource."""
    desk, agent = Desk(rules=RULES), Agent()
    fired: set[tuple[str, str]] = set()
    for number, content in enumerate(reports):
        at = WARM + 10.0 * number
        desk.feed(agent.report(*sections(content)), at=at)

        fired = from_scratch(desk, fired, at)
        assert desk.firing() == fired


@settings(max_examples=20)
@given(st.lists(VOLUME, min_size=150, max_size=150))
def test_rules_asked_together_answer_as_each_alone(volumes: list[dict[str, Value]]) -> None:
    """Also from the moment on when they are compiled together, because they are asked so often."""
    desk = Desk(rules=RULES)
    asked = Affected(desk.rules).by("volume", frozenset({"writable", "free_ratio"}))
    subjects = [Resource(kind="volume", facts=values) for values in volumes]

    answers = [asked.judge(subject, WARM) for subject in subjects]

    assert [rule.alert for rule in asked.rules] == ["VolumeLow", "VolumeDead"]
    assert answers == [tuple(rule.judge(subject, WARM) for rule in asked.rules) for subject in subjects]


def sections(content: dict[str, dict[str, Any]]) -> list[Section]:
    volumes = [("volume", name, values) for name, values in content["volumes"].items()]
    paths = [("state_path", PATH, content["path"])] if content["path"] else []
    return [said("volumes", *volumes), said("state_paths", *paths)]


def from_scratch(desk: Desk, fired: set[tuple[str, str]], at: float) -> set[tuple[str, str]]:
    """Every rule, asked of every resource now; where nobody can say, what fired goes on firing while it is there."""
    node = desk.collector.nodes["n1"]
    found = set()
    for place in {("volume", "/a"), ("volume", "/b"), ("state_path", PATH), ("node", "n1")}:
        subject = ResourceSubject(node, place)
        for rule in desk.rules.of_kind(place[0]):
            answer, alert = rule.judge(subject, at), (rule.alert, place[1])
            unknown = answer is Finding.UNKNOWN and alert in fired and not node.gone(place)
            if answer is Finding.HOLDS or unknown:
                found.add(alert)
    return found
