"""Rules held against what a fleet sends: which are dead there, why, and what would help."""

from typing import Any

from holdfast.fleet_lint import remarks
from holdfast_rules import RuleSet, load

PACK = """
rules:
  - {alert: Full, id: T-1, resource: volume, when: free_ratio < 0.1, severity: page, summary: s}
  - {alert: ReadOnly, id: T-2, resource: volume, when: not writable, severity: page, summary: s}
  - {alert: Either, id: T-3, resource: volume, when: not writable or free_ratio < 0.01, severity: page, summary: s}
  - {alert: Aged, id: T-4, resource: device, when: read_only, severity: page, summary: s}
  - {alert: Path, id: T-5, resource: collector, when: "True", severity: info, summary: s}
where:
  - {nodes: ["db-*"], override: {Full: {severity: ticket}}}
  - {labels: {role: web}, override: {Full: {severity: info}}}
"""


def rules() -> RuleSet:
    return load({"own.yaml": PACK})


def answer(**more: Any) -> Any:
    fact = {"nodes": 3, "resources": 7, "last_seen_at": 1.0}
    return {
        "nodes": 3,
        "kinds": {"volume": {"nodes": 3, "resources": 7, "facts": {"free_ratio": fact}}},
        "unknown": [],
        "names": ["db-1", "web-1"],
        "labels": {"web-1": {"role": "web"}},
    } | more


SILENT = (
    "    no agent says why: it may be too old for this fact, or its machines may have nothing of the sort"
)
IDLE = "own.yaml: idle: no live node has a device: nothing to judge for Aged"


def lint(found: Any) -> list[str]:
    return [line for remark in remarks(rules(), rules().rules, ["own.yaml"], found) for line in remark.lines]


def test_rule_whose_fact_nobody_sends_is_dead_and_one_that_has_another_way_is_not() -> None:
    assert lint(answer()) == [
        "own.yaml: dead: ReadOnly: cannot fire: no live node sends volume.writable",
        SILENT,
        "own.yaml: partly: Either: no live node sends volume.writable",
        SILENT,
        IDLE,
    ]


def test_reason_is_the_agents_own() -> None:
    """A fact that a working probe misses, before probes that may not look at all."""
    row = {"probe": "volumes", "status": "ok", "name": "writable", "reason": "needs a right", "nodes": 2}
    denied = {"probe": "kernel_log", "status": "denied", "name": "", "reason": "may not read", "nodes": 1}
    told = [{**denied, "example": "db-1"}, {**row, "example": "db-2"}]

    said = lint(answer(unknown=told)), lint(answer(unknown=told[:1]))

    assert [lines[1] for lines in said] == [
        "    probe volumes on 2 nodes (e.g. db-2): needs a right",
        "    probe kernel_log denied on 1 node (e.g. db-1): may not read",
    ]


def test_fact_that_some_nodes_do_not_send_is_told() -> None:
    facts = {
        "free_ratio": {"nodes": 2, "resources": 4, "last_seen_at": 1.0},
        "writable": {"nodes": 3, "resources": 7, "last_seen_at": 1.0},
    }
    said = "volume.free_ratio is sent by 2 of 3 nodes that have a volume (4 of 7 resources); elsewhere it is unknown"

    assert lint(answer(kinds={"volume": {"nodes": 3, "resources": 7, "facts": facts}})) == [
        f"own.yaml: partly: Full: {said}",
        SILENT,
        f"own.yaml: partly: Either: {said}",
        SILENT,
        IDLE,
    ]


def test_override_that_means_no_node_is_dead() -> None:
    found = [line for line in lint(answer(names=["app-1", "web-1"], labels={})) if "`where`" in line]

    assert found == [
        "own.yaml:9: dead: this `where` means no node that the collector knows (nodes db-*)",
        "own.yaml:10: dead: this `where` means no node that the collector knows (role = web)",
    ]
