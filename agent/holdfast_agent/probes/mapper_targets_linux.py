"""What mapped devices are made of, and what a dm-writecache says of itself: `dmsetup status`.

Only root may ask device-mapper, so another unit does (`device_answers_linux`). A target `error` fails all that comes its way,
`zero` forgets it, `flakey` and `dust` fail on purpose, `delay` waits: targets of tests, and `error` what LVM puts in
place of a disk that is missing (lvm(8), "activation --partial"). A dm-writecache that could not write to its cache or
its disk fails all requests from then on and says so only here (drivers/md/dm-writecache.c; status line: the kernel's
Documentation/admin-guide/device-mapper/writecache.rst).
"""

from msgspec import Struct

from holdfast_agent.errors import Denied, Unsupported
from holdfast_agent.probe import Lag, NoData, Observation, Poll, ProbeContext
from holdfast_agent.probes.device_answers_linux import PERIOD_SECONDS, Answer, DeviceAnswers, ask_mapper
from holdfast_agent.probes.mapper_table import Target, parse_tables
from holdfast_agent.probes.sysfs_linux import attributes, names_in, number
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_FAULTY = frozenset({"error", "zero", "flakey", "dust", "delay"})


class MapperTargetsRaw(Struct, frozen=True, kw_only=True):
    """What `dmsetup status` said, and the devices it speaks of."""

    answer: Answer
    names: dict[str, str]
    """Name in /dev/mapper → kernel name."""


class MapperTargets(Poll[MapperTargetsRaw]):
    """The targets of mapped devices."""

    name = "mapper_targets"
    platforms = frozenset({"linux"})
    cost = "nobody knows that a mapped device is made to fail, or that a dm-writecache has failed"
    period_seconds = 300.0
    timeout_seconds = 45.0
    emits = (("device", "dm_targets"), ("device", "dm_faulty_target"), ("device", "dm_writecache_failed"))
    lags = (Lag(by="dmsetup is asked every five minutes", facts=emits, seconds=2 * PERIOD_SECONDS),)

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        self._answers = DeviceAnswers(context, "mapper", lambda before: ask_mapper(before, context.sysfs))

    def read(self) -> MapperTargetsRaw:
        block = self.context.sysfs / "block"
        names = {}
        for device in names_in(block, "dm-*"):
            if name := attributes(block / device / "dm", ["name"]).get("name"):
                names[name] = device
        if not names:
            raise NoData("no device is mapped")
        answer = self._answers.get(2 * PERIOD_SECONDS + 30.0).get("status")
        if answer is None:
            raise Denied("the newest answers lack that of dmsetup")
        return MapperTargetsRaw(answer=answer, names=names)

    def interpret(self, raw: MapperTargetsRaw) -> Observation:
        if raw.answer.status != 0:
            if raw.answer.error.endswith("is not installed"):
                raise Unsupported("there are mapped devices, but dmsetup is not installed")
            said = raw.answer.error or raw.answer.output.strip() or "nothing"
            raise Denied(f"dmsetup ended with {raw.answer.status} and said: {said[:300]}")
        tables = parse_tables(raw.answer.output)
        missing = {f"{device}.dm_targets": "dmsetup said nothing of it"
                   for name, device in raw.names.items() if name not in tables}  # fmt: skip
        resources = [
            Resource(kind=ResourceKind.DEVICE, name=device, facts=target_facts(tables[name]))
            for name, device in sorted(raw.names.items())
            if name in tables
        ]
        return Observation(resources=resources, missing=missing)


def target_facts(targets: tuple[Target, ...]) -> dict[str, Value]:
    """Of one device's status lines. A dm-writecache's first word is 0, or an error.

    It is the error's number by the kernel's documentation and 1 by its code, so only that there is one is told."""
    types = sorted({target.type for target in targets})
    facts: dict[str, Value] = {
        "dm_targets": ", ".join(types),
        "dm_faulty_target": ", ".join(type_ for type_ in types if type_ in _FAULTY),
    }
    errors = [
        error
        for target in targets
        if target.type == "writecache" and target.arguments
        if (error := number(target.arguments[0])) is not None
    ]
    if errors:
        facts["dm_writecache_failed"] = any(errors)
    return facts
