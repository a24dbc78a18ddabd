"""Which one resource of another kind a resource rests on, and the fact that names it.

    device ◀── device ── volume ◀── mountpoint ── state_path ── service ──▶ service

A state path ends on a volume and belongs to a service; a volume lies on a device. Every one of them belongs to its node,
which needs no fact. So a rule on a state path may ask `volume.free_ratio`, and is asked again when that changes.
"""

from holdfast_wire.declaration import ON_NO_NODE, ResourceKind

REFERENCES: dict[str, dict[str, str]] = {
    ResourceKind.VOLUME: {ResourceKind.DEVICE: "device"},
    ResourceKind.STATE_PATH: {ResourceKind.VOLUME: "mountpoint", ResourceKind.SERVICE: "service"},
}
"""Kind → kind of what it rests on → the fact whose value is the other's name. Empty text names nothing."""

LACKING: dict[str, tuple[str, str]] = {ResourceKind.STATE_PATH: (ResourceKind.VOLUME, "missing_mountpoint")}
"""Kind → what it should rest on and does not, likewise. An alert on that explains its own, and no condition asks it."""

RELATED: dict[str, tuple[str, ...]] = {
    kind.value: (
        *(() if kind in {ResourceKind.NODE, *ON_NO_NODE} else (ResourceKind.NODE.value,)),
        *(ResourceKind(other).value for other in REFERENCES.get(kind.value, {})),
    )
    for kind in ResourceKind
}
"""Kind → the kinds of which one of its kind has exactly one: a volume has one node, a node has many volumes."""
