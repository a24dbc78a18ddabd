"""The rules: what is wrong with a resource, since when, and how bad that is. Pure: no clock, file, socket or logger.

`expression`  the rule language     `rule`   a condition and its meaning    `pack`  YAML → a rule set
`finding`     a rule's answer now   `alert`  a finding over time            `packtest`  packs under test
`subject`     what a rule is told   `series` a fact's history               `packs/`    the rules we ship
"""

from holdfast_rules.alert import Alert, AlertState, Step, Transition, acknowledge, advance, key
from holdfast_rules.errors import PackError
from holdfast_rules.finding import Finding
from holdfast_rules.lower import ProgramOfAll
from holdfast_rules.pack import load
from holdfast_rules.rule import Rule
from holdfast_rules.rule_set import RuleSet, judge_all
from holdfast_rules.series import Series
from holdfast_rules.subject import Others, Subject
from holdfast_rules.variants import NodeLabels

__all__ = [
    "Alert",
    "AlertState",
    "Finding",
    "NodeLabels",
    "Others",
    "PackError",
    "ProgramOfAll",
    "Rule",
    "RuleSet",
    "Series",
    "Step",
    "Subject",
    "Transition",
    "acknowledge",
    "advance",
    "judge_all",
    "key",
    "load",
]
