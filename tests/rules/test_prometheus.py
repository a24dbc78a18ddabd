"""Rules as PromQL: what is said, what is refused with its reason, and that promtool takes and runs it."""

import subprocess
from pathlib import Path

import pytest

from holdfast_collector.packs import load_rules
from holdfast_rules import load
from holdfast_rules.prometheus import Inexpressible, export, promql
from holdfast_rules.yaml_document import write_document
from tests import needs
from tests.rules.resource import rule

ON = "on (node, volume)"


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("dead", "holdfast_volume_dead == 1"),
        ("not dead", "holdfast_volume_dead == 0"),
        ("dead == False", "holdfast_volume_dead == 0"),
        ("free_ratio < 0.05", "holdfast_volume_free_ratio < 0.05"),
        ("not free_ratio < 0.05", "holdfast_volume_free_ratio >= 0.05"),
        ("0.05 > free_ratio", "holdfast_volume_free_ratio < 0.05"),
        ('free_bytes < "1KiB"', "holdfast_volume_free_bytes < 1024"),
        ("dead and not writable", f"holdfast_volume_dead == 1 and {ON} holdfast_volume_writable == 0"),
        ("not (dead or writable)", f"holdfast_volume_dead == 0 and {ON} holdfast_volume_writable == 0"),
        (
            "dead and (writable or free_ratio < 0.5)",
            f"holdfast_volume_dead == 1 and {ON} (holdfast_volume_writable == 1 or {ON} holdfast_volume_free_ratio < 0.5)",
        ),
        ("free_bytes < size_bytes", "holdfast_volume_free_bytes < holdfast_volume_size_bytes"),
        (
            "free_bytes / size_bytes + 1 > 1.5",
            "((holdfast_volume_free_bytes / (holdfast_volume_size_bytes != 0)) + 1) > 1.5",
        ),
        ('fstype == "ext4"', 'holdfast_volume_info{fstype="ext4"}'),
        ('fstype != "ext4"', 'holdfast_volume_info{fstype!="", fstype!="ext4"}'),
        ('fstype in ("ext4", "x.s")', 'holdfast_volume_info{fstype=~"ext4|x\\\\.s"}'),
        ('mountpoint == "/a\\"b"', 'holdfast_volume_info{mountpoint="/a\\"b"}'),
        ("node.boot_dirty", "holdfast_volume_info and on (node) (holdfast_node_boot_dirty == 1)"),
        (
            "node.uptime_seconds < 60",
            "holdfast_volume_info and on (node) (holdfast_node_uptime_seconds < 60)",
        ),
        (
            'time_to_zero(free_bytes, "6h") < "1d"',
            "predict_linear(holdfast_volume_free_bytes[6h], 86400) < 0",
        ),
        (
            'delta(filesystem_errors_total, "1h30m") > 2',
            "increase(holdfast_volume_filesystem_errors_total[1h30m]) > 2",
        ),
        ('delta(free_bytes, "1h") < 0', "delta(holdfast_volume_free_bytes[1h]) < 0"),
        ('rate(free_bytes, "1m") < 0', "(delta(holdfast_volume_free_bytes[1m]) / 60) < 0"),
        ('changed(free_bytes, "1h")', "changes(holdfast_volume_free_bytes[1h]) > 0"),
        ("abs(free_bytes - 5) > 1", "abs((holdfast_volume_free_bytes - 5)) > 1"),
    ],
)
def test_a_condition_becomes_the_series_for_which_it_holds(when: str, expected: str) -> None:
    assert promql(rule(f"({when})")) == expected


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("any(v.dead for v in volumes)", "count by (node) (holdfast_volume_dead == 1) > 0"),
        (
            "count(v.dead for v in volumes if v.writable) >= 2",
            f"count by (node) (holdfast_volume_writable == 1 and {ON} holdfast_volume_dead == 1) >= 2",
        ),
        ("min(v.free_ratio for v in node.volumes) < 0.1", "min by (node) (holdfast_volume_free_ratio) < 0.1"),
        ("count(v for v in volumes) > 5", "count by (node) (holdfast_volume_info) > 5"),
        ("reporting", "holdfast_node_up == 1"),
    ],
)
def test_many_resources_become_an_aggregation(when: str, expected: str) -> None:
    found = load(
        {"a.yaml": f"rules: [{{alert: Many, resource: node, when: '{when}', severity: info, summary: x}}]"}
    )

    assert promql(found.rules[0]) == expected


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ('options == "rw"', "options is no label"),
        ('fstype == ""', "an empty fstype looks like none"),
        ("age(dead) > 5", "`age(…)` has no like"),
        ("min(free_bytes, 5) > 1", "`min(…)` has no like"),
        ("device.kernel_io_error_total > 5", "what a volume rests on is no label"),
        ("node.uptime_seconds < age(dead) + 5", "a number of the node beside one of the volume"),
        ('not changed(free_bytes, "1h")', "`not changed(…)` has no like"),
        ('time_to_zero(free_bytes, "6h") > 5', "`time_to_zero` greater than something"),
        ("any(v.dead for v in node.volumes)", "`any(…)` on a volume"),
    ],
)
def test_what_promql_cannot_say_is_refused_with_the_reason(when: str, why: str) -> None:
    with pytest.raises(Inexpressible) as caught:
        promql(rule(when))

    assert str(caught.value) == why


def test_every_shipped_rule_is_exported_or_left_out_with_a_reason() -> None:
    rules = load_rules().rules
    found = export(rules)

    exported = [entry["alert"] for group in found.groups for entry in group["rules"]]  # type: ignore[attr-defined]  # a rule file
    assert sorted([*exported, *(alert for alert, _ in found.left_out)]) == sorted(
        rule.alert for rule in rules
    )
    assert {"VolumeDead", "VolumeSpaceLow", "ServiceGaveUp", "KernelReportsDataLoss"} <= set(exported)
    assert all(why for _, why in found.left_out)


def promtool(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    tool = needs.tool("promtool", package="prometheus")
    return subprocess.run([tool, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_promtool_takes_the_shipped_rules_and_they_fire_there(tmp_path: Path) -> None:
    """Words and values of one alert, as Prometheus makes them."""
    (tmp_path / "rules.yml").write_text(write_document({"groups": export(load_rules().rules).groups}))
    series = {
        "holdfast_volume_free_ratio": "0.04x90",
        "holdfast_volume_free_bytes": "1073741824x90",
        "holdfast_volume_size_bytes": "26843545600x90",
        "holdfast_volume_expected_writable": "1x90",
        "holdfast_volume_volatile": "0x90",
    }
    labels = '{node="n1", volume="/srv", mountpoint="/srv"}'
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": f"{name}{labels}", "values": values} for name, values in series.items()
                ],
                "alert_rule_test": [
                    {"eval_time": "29m", "alertname": "VolumeSpaceLow", "exp_alerts": []},
                    {
                        "eval_time": "40m",
                        "alertname": "VolumeSpaceLow",
                        "exp_alerts": [
                            {
                                "exp_labels": {
                                    "node": "n1",
                                    "volume": "/srv",
                                    "mountpoint": "/srv",
                                    "severity": "ticket",
                                    "rule_id": "R-31",
                                    "resource_kind": "volume",
                                },
                                "exp_annotations": {
                                    "summary": "n1: /srv has 4% free",
                                    "description": "1Gi of 25Gi are free.",
                                    "runbook": "volumespacelow",
                                },
                            }
                        ],
                    },
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(write_document(test))

    checked = promtool("check", "rules", "rules.yml", folder=tmp_path)
    tested = promtool("test", "rules", "test.yml", folder=tmp_path)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert tested.returncode == 0, tested.stdout + tested.stderr
