"""`[[group]]`: what is taken, and what is refused with its place."""

from pathlib import Path

import pytest

from holdfast_collector.config import labels, parse
from holdfast_collector.core.groups import DeclaredGroup
from holdfast_collector.errors import ConfigInvalid
from holdfast_collector.group_config import declared
from holdfast_rules.group import Group

README = (Path(__file__).parents[2] / "collector" / "README.md").read_text(encoding="utf-8")
MEMBERS = 'members = ["db-1/pg.service", "db-2/pg.service", "db-3/pg.service"]\n'
ZONES = '[[node_labels]]\nnodes = ["db-*"]\nlabels = { zone = "a" }\n'


def groups(text: str) -> tuple[DeclaredGroup, ...]:
    config = parse(text, "collector.toml", {})
    return declared(config.group, labels(config))


def test_the_example_in_the_readme_is_three_copies_in_three_zones() -> None:
    text = README.partition("A group of three databases")[2].partition("```toml\n")[2].partition("```")[0]

    assert groups(text) == (
        DeclaredGroup(
            group=Group(
                name="orders",
                members=(
                    ("db-1", "postgresql.service"),
                    ("db-2", "postgresql.service"),
                    ("db-3", "postgresql.service"),
                ),
                copies_required=3,
                quorum=2,
            ),
            fault_domain_label="zone",
            fault_domains={"db-1": "a", "db-2": "b", "db-3": "c"},
        ),
    )


@pytest.mark.parametrize(
    ("said", "copies_required", "quorum"), [("", 3, 2), ("copies_required = 1", 1, 1), ("quorum = 3", 3, 3)]
)
def test_what_is_not_said_is_all_copies_and_more_than_half(
    said: str, copies_required: int, quorum: int
) -> None:
    (one,) = groups(f'[[group]]\nname = "g"\n{MEMBERS}{said}\n')

    assert (one.group.copies_required, one.group.quorum) == (copies_required, quorum)


def test_a_service_may_have_a_slash_in_its_name() -> None:
    (one,) = groups('[[group]]\nname = "g"\nmembers = ["db-1/a/b"]\n')

    assert one.group.members == (("db-1", "a/b"),)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (f"[[group]]\n{MEMBERS}", "group[1].name: every group needs a name"),
        (f'[[group]]\nname = "g"\n{MEMBERS}' * 2, "group[2].name: 'g' names another group already"),
        ('[[group]]\nname = "g"\n', "group[1].members: name the copies"),
        ('[[group]]\nname = "g"\nmembers = ["pg.service"]\n', "'pg.service' is no NODE/SERVICE"),
        ('[[group]]\nname = "g"\nmembers = ["DB 1/pg"]\n', "'DB 1/pg' is no NODE/SERVICE"),
        ('[[group]]\nname = "g"\nmembers = ["a/b", "a/b"]\n', "'a/b' stands here twice"),
        (f'[[group]]\nname = "g"\n{MEMBERS}copies_required = 4\n', "group[1].copies_required: 1 to 3"),
        (f'[[group]]\nname = "g"\n{MEMBERS}quorum = 4\n', "group[1].quorum: 1 to 3"),
        (f'[[group]]\nname = "g"\n{MEMBERS}copies_required = 2\nquorum = 3\n', "group[1].quorum: 1 to 2"),
        (
            f'{ZONES}[[group]]\nname = "g"\n{MEMBERS}fault_domain_label = "zon"\n',
            "gives the label 'zon'; did you mean 'zone'?",
        ),
        (
            f'{ZONES}[[group]]\nname = "g"\nmembers = ["db-1/a", "web-1/a"]\nfault_domain_label = "zone"\n',
            "group[1].fault_domain_label: no [[node_labels]] gives web-1 the label 'zone'",
        ),
        (f'[[group]]\nname = "g"\n{MEMBERS}quorums = 2\n', "did you mean 'quorum'?"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(text: str, mistake: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        groups(text)

    assert mistake in str(refused.value)
