"""What a probe reports as having happened, before it becomes a message."""

from msgspec import Struct, field

from holdfast_wire.message import Value


class Happening(Struct, frozen=True, kw_only=True):
    """One thing that happened; the agent makes a durable `event` message of it."""

    type: str
    """A name of `holdfast_wire.fact.EVENT_TYPES`, and in the class's `events`."""
    resource_kind: str
    resource: str
    at: float
    """When it happened by the wall clock, Unix seconds UTC: when the machine says so, else when it was noticed."""
    summary: str
    """One line for a person, in the machine's own words where it has any."""
    fields: dict[str, Value] = field(default_factory=dict)
