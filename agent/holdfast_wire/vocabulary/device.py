"""What is said of a block device."""

from holdfast_wire.declaration import FLOAT, INT, EventType, Fact, Origin, ResourceKind, facts

FACTS: list[Fact] = [
    *facts(
        ResourceKind.DEVICE,
        Origin.AGENT,
        [
            (
                "stalled_seconds",
                FLOAT,
                "seconds",
                "m",
                "For how long at least requests have been in flight without one completing; 0: they complete.",
            ),
            ("requests_stalled", INT, "", "", "How many requests wait while none completes."),
        ],
    ),
]
EVENTS: tuple[EventType, ...] = (
    EventType(
        name="kernel_data_loss",
        resource=ResourceKind.DEVICE,
        help="The kernel says that data it had accepted did not reach the device, or that a filesystem gave up.",
    ),
    EventType(
        name="kernel_filesystem_error",
        resource=ResourceKind.DEVICE,
        help="The kernel found a filesystem's structures damaged.",
    ),
    EventType(
        name="kernel_io_error",
        resource=ResourceKind.DEVICE,
        help="A request to a block device failed.",
    ),
    EventType(
        name="kernel_device_reset",
        resource=ResourceKind.DEVICE,
        help="A device did not answer and was reset, or a request timed out.",
    ),
    EventType(
        name="kernel_recovery",
        resource=ResourceKind.DEVICE,
        help="A filesystem replayed its journal: it had not been unmounted cleanly.",
    ),
)
