"""A rule's answer for one resource at one moment."""

from enum import StrEnum


class Finding(StrEnum):
    """What a rule says of a resource now.

    A condition has three answers because no data is never health: what cannot be known neither raises nor clears
    anything. A rule with a `clear_when` has a fourth.
    """

    HOLDS = "holds"
    """The condition is met."""
    CLEAR = "clear"
    """The condition is known not to be met."""
    BETWEEN = "between"
    """The condition is known not to be met, and so is `clear_when`: what fires goes on, what does not never begins."""
    UNKNOWN = "unknown"
    """Evidence that the answer depends on is missing, stale or too young."""
