"""What is said of a probe: the agent watching itself."""

from holdfast_wire.declaration import BOOL, FLOAT, STR, EventType, Fact, Origin, ResourceKind, facts

EXTRA_RIGHT_PROBES = frozenset({"filesystem_events", "request_errors", "stranded_data"})
"""They need CAP_SYS_ADMIN or root himself, which the unit withholds; systemd/README.md shows what can be granted, and what for."""

FACTS: list[Fact] = [
    *facts(
        ResourceKind.PROBE,
        Origin.COLLECTOR,
        [
            (
                "status",
                STR,
                "",
                "",
                "How the newest run ended: ok, no_data, unsupported, denied, timeout or error.",
            ),
            ("detail", STR, "", "", "Why, and what would change it."),
            (
                "extra_right",
                BOOL,
                "",
                "",
                "It needs a right that the shipped unit does not give, on purpose: denied is as it was installed.",
            ),
            ("working", BOOL, "", "", "The newest run gave facts, or there is nothing of the kind here."),
            ("duration_seconds", FLOAT, "seconds", "", "How long the newest run took."),
            (
                "stale",
                BOOL,
                "",
                "",
                "The agent reports, but this probe has not finished a run within three periods.",
            ),
        ],
    ),
]
EVENTS: tuple[EventType, ...] = ()
