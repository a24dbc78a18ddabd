"""How facts and events are declared: kinds of resource, types of values, and the Structs of the vocabulary."""

from enum import StrEnum

from msgspec import Struct


class ResourceKind(StrEnum):
    """What has facts. `probe` and `collector` are holdfast watching itself."""

    NODE = "node"
    DEVICE = "device"
    VOLUME = "volume"
    SERVICE = "service"
    STATE_PATH = "state_path"
    PROBE = "probe"
    COLLECTOR = "collector"
    GROUP = "group"
    """Services of several nodes that hold copies of one state, as declared in the collector's configuration."""


ON_NO_NODE = frozenset({ResourceKind.COLLECTOR, ResourceKind.GROUP})
"""Kinds that belong to no node: the collector states their facts, and no rule about them asks a node's."""


class FactType(StrEnum):
    """The type of a fact's value. A `float` fact also takes whole numbers."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    STR = "str"

    @property
    def python_types(self) -> frozenset[type]:
        """The exact types of values that state such a fact."""
        match self:
            case FactType.BOOL:
                return frozenset({bool})
            case FactType.INT:
                return frozenset({int})
            case FactType.FLOAT:
                return frozenset({float, int})
            case FactType.STR:
                return frozenset({str})


class Origin(StrEnum):
    """Who states a fact."""

    AGENT = "agent"
    COLLECTOR = "collector"


class Fact(Struct, frozen=True, kw_only=True):
    """The declaration of one fact."""

    resource: ResourceKind
    name: str
    type: FactType
    unit: str = ""
    """`seconds`, `bytes`, `ratio`, … as in the name's last part; empty for bool, text and plain counts."""
    help: str
    values: tuple[str, ...] = ()
    """The closed set of a text fact, where there is one. Others pass the codec: a newer agent may know more."""
    metric: str = ""
    """The Prometheus family that carries the fact. Empty: not exported."""
    label: bool = False
    """A text fact that becomes a label of `holdfast_<resource>_info`."""
    counter: bool = False
    """Only ever grows, but for restarts of what it counts."""
    origin: Origin = Origin.AGENT


class EventType(Struct, frozen=True, kw_only=True):
    """The declaration of one kind of event.

    The collector counts events of each type per resource as the fact `<name>_total`, and keeps the newest one's
    summary as `<name>_last`, so that a rule can ask `delta(kernel_data_loss_total, "1h") > 0`.
    """

    name: str
    resource: ResourceKind
    help: str
    origin: Origin = Origin.AGENT


def facts(
    resource: ResourceKind, origin: Origin, rows: list[tuple[str, FactType, str, str, str]]
) -> list[Fact]:
    """Rows of name, type, unit, flags, help. Flags: `m` metric, `c` counter metric, `l` label of the info metric."""
    declared = []
    for name, type_, unit, flags, help_ in rows:
        metric = f"holdfast_{resource.value}_{name}" if "m" in flags or "c" in flags else ""
        declared.append(
            Fact(
                resource=resource,
                name=name,
                type=type_,
                unit=unit,
                help=help_,
                metric=metric,
                label="l" in flags,
                counter="c" in flags,
                origin=origin,
            )
        )
    return declared


BOOL, INT, FLOAT, STR = FactType.BOOL, FactType.INT, FactType.FLOAT, FactType.STR
"""Short, for the rows of the vocabulary."""
