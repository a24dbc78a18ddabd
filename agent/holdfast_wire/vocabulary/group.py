"""What the collector counts of a declared group of services that hold copies of one state."""

from holdfast_wire.declaration import INT, STR, EventType, Fact, Origin, ResourceKind, facts

FACTS: list[Fact] = [
    *facts(
        ResourceKind.GROUP,
        Origin.COLLECTOR,
        [
            ("verdict", STR, "", "", "What is said of the copies together."),
            ("copies", INT, "", "", "Services that are declared to hold a copy."),
            ("copies_required", INT, "", "", "How many copies must stand for the group to be durable."),
            ("quorum", INT, "", "", "How many copies it needs to keep what it acknowledges."),
            ("copies_standing", INT, "", "", "Copies that stand, those in one fault domain counted once."),
            (
                "copies_left",
                INT,
                "",
                "",
                "Copies on which no page fires, at risk or not, those in one fault domain counted once.",
            ),
            (
                "copies_unknown",
                INT,
                "",
                "",
                "Copies of which nothing is known now: they may stand, and may not.",
            ),
            ("copies_lost", INT, "", "", "Copies that lost state."),
            (
                "fault_domains",
                INT,
                "",
                "",
                "Different fault domains that the copies are declared to be in, standing or not.",
            ),
            (
                "copies_troubled",
                STR,
                "",
                "",
                "The copies that do not stand, as node/service; empty when all do.",
            ),
        ],
    ),
]
EVENTS: tuple[EventType, ...] = ()
