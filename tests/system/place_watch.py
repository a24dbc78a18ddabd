"""What the collector says of services, of where they keep their state, and of what happens to it: before, meanwhile, after.

    watch = Watch(stack, hook, keepers, PLACES, FAULTS)
    seen = watch.played()     # waits for all places, does all faults at once, mends them all

What is not said in time is not waited for any longer: it is missing in what was seen, and the case's own test says so.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tests.receiver import Receiver
from tests.system.keepers import Keepers
from tests.system.stack import Stack, notices

NODE = "vm-1"
Facts = dict[str, Any]


class Place(NamedTuple):
    """Where a service keeps its state, and what must be said of it."""

    folder: str
    volume: str
    """The volume it ends on."""
    fstype: str
    level: int
    """The durability class of that volume."""
    alert: str = ""
    """What people are told of it; empty when all is well."""
    verdict: str = "durable"
    disk: str = ""
    """Whose device it lies on; empty where the filesystem has none."""
    volatile: bool = False
    syncs_ignored: bool = False
    role: str = "data"
    source: str = "working directory"
    confidence: str = "high"


class Fault(NamedTuple):
    """What happens under a running service on /srv/CASE, what an operator does about it, and what must be said."""

    do: Callable[[Keepers, str], object]
    mend: Callable[[Keepers, str], object]
    on: str
    """The kind of resource that has the fact."""
    fact: str
    present: Callable[[Any], bool]
    """Whether the fact's value shows the fault."""
    alert: str
    summary: str
    """With {case} and {device}."""
    about: str = ""
    """The kind of resource the alert is about, if not the one that has the fact."""
    path: str = "/srv/{case}/state"
    """The state path that is meant."""
    verdict: str = "at_risk"
    """Of the service, meanwhile."""
    careless: bool = False
    """The service starts without its mount, too."""
    answered: bool = False
    """The alert is sticky: it waits for an operator's word."""


class View:
    """One look at the node as the collector shows it."""

    def __init__(self, stack: Stack) -> None:
        node = stack.collector.node(NODE) or {}
        self._facts: dict[tuple[str, str], Facts] = {
            (row["kind"], row["name"]): row["facts"] for row in node.get("resources", [])
        }
        self._verdicts = {(row["kind"], row["name"]): row["verdict"] for row in node.get("verdicts", [])}

    def facts(self, kind: str, name: str) -> Facts:
        return self._facts.get((kind, name), {})

    def verdict(self, kind: str, name: str) -> str:
        return str(self._verdicts.get((kind, name), "unknown"))


class Outcome(NamedTuple):
    """What was said of a fault: before it, while it lasted, and after it was mended."""

    values: list[Any]
    """Of the fact."""
    verdicts: list[str]
    """Of the service."""
    told: list[dict[str, Any]]
    """All notices of the alert about the resource."""


class Seen(NamedTuple):
    """Everything that was said."""

    view: View
    """While the faults lasted, which leave the places alone."""
    alerts: list[dict[str, Any]]
    """And what fired then."""
    devices: dict[str, str]
    """Case → the kernel's name of its disk."""
    outcomes: dict[str, Outcome]


class Watch:
    """Of the cases, by what they are called in the tables."""

    def __init__(
        self,
        stack: Stack,
        hook: Receiver,
        keepers: Keepers,
        places: Mapping[str, Place],
        faults: Mapping[str, Fault],
    ) -> None:
        self._stack, self._hook, self._keepers = stack, hook, keepers
        self._places, self._faults = places, faults

    def played(self) -> Seen:
        """All places, then all faults at once, then all of them mended."""
        faults = self._faults
        self._stack.wait(self._known, "every place to be known")
        before = self._state()
        for case, fault in faults.items():
            fault.do(self._keepers, case)
        during = self._until(
            "firing", lambda case, value: faults[case].present(value), lambda case: faults[case].verdict
        )
        view, alerts = View(self._stack), self._stack.collector.firing()
        for case, fault in faults.items():
            fault.mend(self._keepers, case)
        after = self._until(
            "resolved", lambda case, value: not faults[case].present(value), lambda case: before[case][1]
        )
        outcomes = {}
        for case in faults:
            values, verdicts = zip(before[case], during[case], after[case], strict=True)
            outcomes[case] = Outcome(list(values), list(verdicts), self._told(case))
        disks = [*self._keepers.disks, *self._keepers.failing]
        return Seen(view, alerts, {name: self._keepers.device(name) for name in disks}, outcomes)

    def _name(self, kind: str, case: str) -> str:
        """Of a resource of a fault's case."""
        path = self._faults[case].path.format(case=case)
        names = {"service": f"keeper-{case}.service", "state_path": f"keeper-{case}.service:{path}"}
        return names.get(kind) or (f"/srv/{case}" if kind == "volume" else self._keepers.device(case))

    def _known(self) -> bool:
        """Every state path was followed, to a volume whose class is known; and nothing is wrong yet."""
        view = View(self._stack)
        paths = [f"keeper-{case}.service:{place.folder}" for case, place in self._places.items()]
        paths += [self._name("state_path", case) for case in self._faults]
        volumes = [place.volume for place in self._places.values()]
        volumes += [f"/srv/{case}" for case in self._faults]
        services = [self._name("service", case) for case in self._faults]
        return (
            all("volatile" in view.facts("state_path", path) for path in paths)
            and all("durability_class" in view.facts("volume", volume) for volume in volumes)
            and all("up" in view.facts("service", service) for service in services)
            and all(self._value(view, case) is not None for case in self._faults)
        )

    def _value(self, view: View, case: str) -> Any:
        """Of the fault's fact."""
        fault = self._faults[case]
        return view.facts(fault.on, self._name(fault.on, case)).get(fault.fact)

    def _state(self) -> dict[str, tuple[Any, str]]:
        """Case → its fact, and the verdict on its service."""
        view = View(self._stack)
        return {
            case: (self._value(view, case), view.verdict("service", self._name("service", case)))
            for case in self._faults
        }

    def _told(self, case: str, **fields: str) -> list[dict[str, Any]]:
        fault = self._faults[case]
        about = self._name(fault.about or fault.on, case)
        return notices(self._hook, alertname=fault.alert, resource=about, **fields)

    def _places_told(self) -> bool:
        """One of them waits for half an hour, as shipped."""
        told = {(notice["alertname"], notice["resource"]) for notice in notices(self._hook, status="firing")}
        places = self._places.items()
        return told >= {
            (place.alert, f"keeper-{case}.service:{place.folder}") for case, place in places if place.alert
        }

    def _until(
        self, status: str, reached: Callable[[str, Any], bool], verdict: Callable[[str], str]
    ) -> dict[str, tuple[Any, str]]:
        """The state once every case has such a fact, verdict and notice, or after a minute."""

        def all_told() -> bool:
            untold = [case for case in self._faults if not self._told(case, status=status)]
            waiting = [case for case in untold if self._told(case)]
            if status == "resolved" and all(self._faults[case].answered for case in waiting):
                self._answer(waiting)
            return not untold and self._places_told()

        def all_reached() -> bool:
            return all_told() and all(
                reached(case, value) and said == verdict(case)
                for case, (value, said) in self._state().items()
            )

        try:
            self._stack.wait(all_reached, f"everything to be {status}", 60.0)
        except AssertionError as late:
            sys.stderr.write(f"{late}\n")
        return self._state()

    def _answer(self, cases: list[str]) -> None:
        """As an operator, once the disk works and is mounted again: the kernel has said all that it will say of it."""
        state = self._state()
        for case in cases:
            fault = self._faults[case]
            clear = self._stack.collector.firing(
                alertname=fault.alert,
                resource=self._name(fault.about or fault.on, case),
                last_finding="clear",
            )
            for alert in clear:
                if not fault.present(state[case][0]) and not alert["acknowledged"]:
                    body = {"key": alert["key"], "reason": "restored from last night's backup"}
                    self._stack.collector.post("/api/v1/acks", body)
