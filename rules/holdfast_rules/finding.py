"""A rule's answer for one resource at one moment."""

from enum import StrEnum


class Finding(StrEnum):
    """What a rule says of a resource now.

    There are three answers because no data is never health: what cannot be known neither raises nor clears anything.
    """

    HOLDS = "holds"
    """The condition is met."""
    CLEAR = "clear"
    """The condition is known not to be met."""
    UNKNOWN = "unknown"
    """Evidence that the answer depends on is missing, stale or too young."""
