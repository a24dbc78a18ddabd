"""The topic grammar: one table, build and parse.

`holdfast/v1/<node>/up`    agent to collector, everything of one node, its will included
`holdfast/v1/<node>/down`  collector to agent: acknowledgements and requests to send again
"""

import re

ROOT = "holdfast/v1"
NODE = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
"""A node name: a host name in lower case. No slash, no wildcard: topics and client ids are made of it."""

UP_FILTER = f"{ROOT}/+/up"
"""What a collector subscribes to. Of exact depth, so an identity with a slash in it cannot speak as another node."""

_UP = re.compile(rf"{ROOT}/({NODE.pattern})/up")


def node_name_valid(name: str) -> bool:
    """Whether `name` may name a node."""
    return NODE.fullmatch(name) is not None


def up_topic(node: str) -> str:
    """The topic on which `node` speaks."""
    return f"{ROOT}/{node}/up"


def down_topic(node: str) -> str:
    """The topic on which `node` is spoken to."""
    return f"{ROOT}/{node}/down"


def parse_up(topic: str) -> str | None:
    """The node that speaks on `topic`, or None when it is no such topic."""
    match = _UP.fullmatch(topic)
    return match[1] if match else None
