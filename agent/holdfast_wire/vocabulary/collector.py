"""What is said of the collector watching itself."""

from holdfast_wire.declaration import BOOL, FLOAT, INT, STR, EventType, Fact, Origin, ResourceKind, facts

FACTS: list[Fact] = [
    *facts(
        ResourceKind.COLLECTOR,
        Origin.COLLECTOR,
        [
            ("broker_connected", BOOL, "", "", "The collector holds a session with a broker."),
            ("warm", BOOL, "", "", "The collector has watched for a full grace period since it started."),
            ("nodes", INT, "", "", "Nodes the collector knows."),
            ("nodes_reporting", INT, "", "", "Nodes whose reports come."),
            (
                "nodes_silent_together",
                INT,
                "",
                "",
                "The most nodes that are silent now and were last heard of within one minute of each other.",
            ),
            (
                "nodes_silent_together_ratio",
                FLOAT,
                "ratio",
                "",
                "Their share of all nodes the collector knows.",
            ),
            ("silent_together", STR, "", "", "The first ten of them by name; empty when nobody is silent."),
            ("outbox_notices", INT, "", "", "Notifications that wait for their receiver."),
            (
                "behind_agents",
                BOOL,
                "",
                "",
                "An agent holds acknowledgements of records this collector does not know: it was restored from a copy.",
            ),
            ("outbox_age_seconds", FLOAT, "seconds", "", "How long the oldest of them has waited."),
        ],
    ),
]
EVENTS: tuple[EventType, ...] = ()
