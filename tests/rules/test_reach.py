"""What a condition can still answer when some of its facts are never sent."""

import pytest

from holdfast_rules.expression import compile_expression
from holdfast_rules.reach import can_hold, facts_of

SENT = {("volume", "free_ratio"), ("volume", "fstype"), ("node", "boot_dirty")}


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("free_ratio < 0.1", True),
        ("writable", False),
        ("not writable", False),
        ("not writable and free_ratio < 0.1", False),
        ("not writable or free_ratio < 0.1", True),
        ("not (writable and free_ratio < 0.1)", True),
        ("not (writable or free_ratio < 0.1)", False),
        ("free_bytes < 5", False),
        ("free_bytes / size_bytes < 0.1", False),
        ('fstype in ("zfs", "btrfs")', True),
        ("durability_class in (0, 1)", False),
        ("node.boot_dirty", True),
        ("device.rotational", False),
        ('time_to_zero(free_ratio, "6h") < 3600', True),
        ('delta(free_bytes, "1h") < 0', False),
        ("age(writable) > 60", False),
        ("any(v.free_ratio < 0.1 for v in node.volumes)", True),
        ("any(not v.writable for v in node.volumes)", False),
        ("any(v.free_ratio < 0.1 for v in node.volumes if v.writable)", False),
        ("all(v.writable for v in node.volumes)", True),
        ("count(v.writable for v in node.volumes) < 1", True),
        ("True", True),
    ],
)
def test_condition_holds_only_by_facts_that_are_sent(when: str, holds: bool) -> None:
    """What asks about all of many resources may hold where there are none: it is never called dead."""
    tree = compile_expression(when, "volume", lint=False).tree

    assert can_hold(tree, lambda kind, fact: (kind, fact) in SENT) is holds


def test_facts_are_listed_with_their_kind_in_order() -> None:
    when = "not writable and node.boot_dirty and any(v.free_ratio < 0.1 for v in node.volumes if v.fstype == fstype)"

    assert facts_of(compile_expression(when, "volume").tree) == [
        ("volume", "writable"),
        ("node", "boot_dirty"),
        ("volume", "free_ratio"),
        ("volume", "fstype"),
    ]
