"""The topic grammar is a security border: what is no node name must not become a topic."""

import pytest

from holdfast_wire.topic import down_topic, node_name_valid, parse_up, up_topic


@pytest.mark.parametrize("name", ["a", "db-1", "db-1.prod.example", "0", "a" * 63])
def test_host_names_are_node_names(name: str) -> None:
    """What it builds, it parses."""
    assert node_name_valid(name)
    assert parse_up(up_topic(name)) == name
    assert down_topic(name) == f"holdfast/v1/{name}/down"


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "a-", ".a", "a.", "a/b", "+", "#", "a b", "a" * 64, "ä", "a\n", "a\0"]
)
def test_what_could_change_a_topics_meaning_is_no_node_name(name: str) -> None:
    """A slash would let one identity speak as another, a wildcard as all."""
    assert not node_name_valid(name)
    assert parse_up(up_topic(name)) is None


@pytest.mark.parametrize(
    "topic",
    [
        "holdfast/v1/a/down",
        "holdfast/v2/a/up",
        "holdfast/v1/a/up/up",
        "holdfast/v1/a/b/up",
        "x/holdfast/v1/a/up",
    ],
)
def test_other_topics_are_not_parsed(topic: str) -> None:
    """Only exact depth and version."""
    assert parse_up(topic) is None
