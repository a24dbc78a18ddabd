"""The nodes' series as ready lines of the Prometheus text format, kept per metric family.

A page must list each family whole, while news comes per node. So a family is a dict of node → that node's lines,
already encoded: news of a node rewrites its entries, and a page is the families joined. Measured against
prometheus_client, which formats every sample at every scrape, a page costs a fortieth.

Only what changed is rewritten: the core replaces a resource's dict of facts and never changes it in place, so the same
dict means the same lines. A stale fact is not in the dict, and its series is not on the page.

What agents say is hostile input. Label values are escaped and cut, numbers that no machine has are left out, and a
node's resources beyond a limit have no series, which is counted.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (0.0.4) and
https://prometheus.io/docs/specs/om/open_metrics_spec/ (1.0.0).
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from operator import is_

from holdfast_collector.core.node import Node
from holdfast_collector.core.record import Tracked
from holdfast_rules import AlertState
from holdfast_wire.fact import FACTS_OF, Fact, FactType, ResourceKind
from holdfast_wire.message import Value

RESOURCES_MAX = 2000
"""Per node. 200 mounts and 300 services are an unusually large machine; one node must not fill the page of all."""
LABEL_LENGTH_MAX = 512
"""As long as the wire lets a name be, so only descriptive labels are ever cut, and no two series become one."""
NUMBER_MAX = 2.0**64
"""No size, count or time goes beyond it; Prometheus refuses a whole page for one number beyond float64."""

SEVERITIES = ("page", "ticket", "info")

Facts = Mapping[str, Value]


class FamilyType(StrEnum):
    """A family's type, by OpenMetrics' words."""

    GAUGE = "gauge"
    COUNTER = "counter"
    INFO = "info"


_SUFFIX = {FamilyType.GAUGE: "", FamilyType.COUNTER: "_total", FamilyType.INFO: "_info"}
_UNITS = ("seconds", "bytes", "ratio")


class Family:
    """One metric family and its lines."""

    __slots__ = ("_headers", "lines", "name", "opening")

    def __init__(self, name: str, type_: FamilyType, help_: str) -> None:
        self.name = name
        self.opening = name + "{"
        self.lines: dict[str, bytes] = {}
        """Node (or for alerts: label set) → its lines, each ended with a newline. Never an empty entry."""
        self._headers = (_plain_header(name, type_, help_), _openmetrics_header(name, type_, help_))

    def header(self, *, openmetrics: bool) -> bytes:
        """The comment lines that go before the samples."""
        return self._headers[openmetrics]

    def put(self, key: str, lines: str) -> None:
        """Replace what stands under `key`; no lines remove it."""
        if lines:
            # A lone surrogate cannot come out of the wire's decoder; one that came all the same must not cost the page.
            self.lines[key] = lines.encode(errors="replace")
        else:
            self.lines.pop(key, None)


def _plain_header(name: str, type_: FamilyType, help_: str) -> bytes:
    help_ = help_.replace("\\", "\\\\").replace("\n", "\\n")
    shown = FamilyType.GAUGE if type_ is FamilyType.INFO else type_
    return f"# HELP {name} {help_}\n# TYPE {name} {shown.value}\n".encode()


def _openmetrics_header(name: str, type_: FamilyType, help_: str) -> bytes:
    """OpenMetrics names a family without the suffix that its samples carry."""
    family = name.removesuffix(_SUFFIX[type_])
    unit = next((unit for unit in _UNITS if family.endswith(f"_{unit}")), "")
    unit_line = f"# UNIT {family} {unit}\n" if unit else ""
    return f"# TYPE {family} {type_.value}\n{unit_line}# HELP {family} {escape(help_)}\n".encode()


def escape(value: str) -> str:
    """A label's value as it stands between the quotes."""
    if len(value) > LABEL_LENGTH_MAX:
        value = value[: LABEL_LENGTH_MAX - 1] + "…"
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value


def labels(*pairs: tuple[str, str]) -> str:
    """Label pairs as they stand between the braces."""
    return ",".join(f'{name}="{escape(value)}"' for name, value in pairs)


class _KindSeries:
    """The families of one kind of resource."""

    def __init__(self, kind: ResourceKind, key_facts: tuple[str, ...] = ()) -> None:
        self._kind = kind
        self._key_facts = key_facts
        """Facts that identify the resource to a person, and so are labels of every series."""
        declared = FACTS_OF[kind.value].values()
        self._samples: list[tuple[Family, Fact, float]] = []
        for fact in declared:
            if fact.metric:
                type_ = FamilyType.COUNTER if fact.counter else FamilyType.GAUGE
                lowest = 0.0 if fact.counter else -NUMBER_MAX
                self._samples.append((Family(fact.metric, type_, fact.help), fact, lowest))
        self._info_facts = [fact.name for fact in declared if fact.label and fact.name not in key_facts]
        self.info = Family(
            f"holdfast_{kind.value}_info", FamilyType.INFO, f"What is known of the {kind.value}, in words."
        )

    @property
    def families(self) -> list[Family]:
        return [self.info, *(family for family, _, _ in self._samples)]

    def labels_of(self, node: str, name: str, facts: Facts) -> str:
        """The labels of every series of one resource."""
        if self._kind is ResourceKind.NODE:
            return node
        key = "".join(f',{fact}="{escape(str(facts.get(fact, "")))}"' for fact in self._key_facts)
        return f'{node},{self._kind.value}="{escape(name)}"{key}'

    def write(self, node: str, rows: Sequence[tuple[str, Facts]]) -> None:
        """Rewrite a node's lines. `rows`: labels and facts of each resource."""
        for family, fact, lowest in self._samples:
            name, opening = fact.name, family.opening
            if fact.type is FactType.BOOL:
                lines = [
                    f"{opening}{pairs}}} {'1' if facts[name] else '0'}\n"
                    for pairs, facts in rows
                    if name in facts
                ]
            else:
                lines = [
                    f"{opening}{pairs}}} {value!r}\n"
                    for pairs, facts in rows
                    if (value := facts.get(name)) is not None and lowest <= value <= NUMBER_MAX  # type: ignore[operator]  # the codec lets only numbers through
                ]
            family.put(node, "".join(lines))

    def write_info(self, node: str, rows: Sequence[tuple[str, Facts]], more: Facts | None = None) -> None:
        """Rewrite a node's info lines. `more`: what is known besides the facts, of every row."""
        opening = self.info.opening
        lines = []
        for pairs, facts in rows:
            known = {**(more or {}), **{name: facts[name] for name in self._info_facts if name in facts}}
            if known:
                described = ",".join(f'{name}="{escape(str(value))}"' for name, value in known.items())
                lines.append(f"{opening}{pairs},{described}}} 1\n")
        self.info.put(node, "".join(lines))


_KINDS: tuple[tuple[ResourceKind, tuple[str, ...]], ...] = (
    (ResourceKind.NODE, ()),
    (ResourceKind.VOLUME, ("mountpoint",)),
    (ResourceKind.DEVICE, ()),
    (ResourceKind.SERVICE, ()),
)
"""What has series, the most important first: a node with too much loses from the end."""

_Held = tuple[list[str], list[Facts]]


class NodeSeries:
    """The series of all nodes."""

    def __init__(self) -> None:
        self._kinds = {kind.value: _KindSeries(kind, key_facts) for kind, key_facts in _KINDS}
        self._held: dict[str, dict[str, _Held]] = {}
        """Node → kind → names and facts as they were written last."""
        self.cut: dict[str, int] = {}
        """Node → resources left out, where there are any."""
        self._up = Family(
            "holdfast_node_up",
            FamilyType.GAUGE,
            "1 while the node reports, 0 when it is silent, lost or stopped. "
            "Absent until a collector that has just started has watched for a grace period.",
        )
        self._last_report = Family(
            "holdfast_node_last_report_timestamp_seconds",
            FamilyType.GAUGE,
            "When the newest report arrived, by the collector's clock, Unix time.",
        )
        self._resources_cut = Family(
            "holdfast_node_resources_cut",
            FamilyType.GAUGE,
            "Resources without series, because the node has more than the page carries.",
        )
        self._probe_seconds = Family(
            "holdfast_agent_probe_duration_seconds", FamilyType.GAUGE, "How long the probe's newest run took."
        )
        self._probe_success = Family(
            "holdfast_agent_probe_success",
            FamilyType.GAUGE,
            "1 when the probe's newest run gave facts or found nothing of its kind, 0 when it did not. "
            "Absent when the node is silent.",
        )
        own = [self._up, self._last_report, self._resources_cut, self._probe_seconds, self._probe_success]
        self.families: list[Family] = [
            *own,
            *(family for kind in self._kinds.values() for family in kind.families),
        ]
        """In the order of the page."""

    def write(self, node: Node) -> None:
        """Rewrite what changed of a node's lines."""
        pairs = labels(("node", node.name))
        self._up.put(
            node.name, "" if node.reporting is None else f"{self._up.opening}{pairs}}} {node.reporting:d}\n"
        )
        self.write_last_report(node)
        self._write_probes(node, pairs)
        by_kind = self._resources_of(node)
        cut = self.cut.get(node.name, 0)
        self._resources_cut.put(node.name, f"{self._resources_cut.opening}{pairs}}} {cut}\n" if cut else "")
        held = self._held.setdefault(node.name, {})
        for name, kind in self._kinds.items():
            now = by_kind[name]
            before = held.get(name)
            if before is not None and before[0] == now[0] and all(map(is_, before[1], now[1])):
                continue
            held[name] = now
            rows = [
                (kind.labels_of(pairs, resource, facts), facts) for resource, facts in zip(*now, strict=True)
            ]
            kind.write(node.name, rows)
            if name != "node":
                kind.write_info(node.name, rows)
        self._write_node_info(node, pairs)

    def write_last_report(self, node: Node) -> None:
        """Rewrite when the node was heard of: it moves with every report, whatever else does not."""
        at = node.last_report_at
        name = node.name
        # A node's name needs no escaping: the wire's topic admits nothing that would.
        self._last_report.put(
            name, f'{self._last_report.opening}node="{name}"}} {at:.3f}\n' if at > 0 else ""
        )

    def forget(self, node: str) -> None:
        """Remove all lines of a node."""
        for family in self.families:
            family.lines.pop(node, None)
        self._held.pop(node, None)
        self.cut.pop(node, None)

    def _resources_of(self, node: Node) -> dict[str, _Held]:
        """A node's resources by kind, cut to what the page carries."""
        by_kind: dict[str, _Held] = {name: ([], []) for name in self._kinds}
        for (kind, name), facts in node.resources.items():
            rows = by_kind.get(kind)
            if rows is not None:
                rows[0].append(name)
                rows[1].append(facts)
        left = RESOURCES_MAX
        cut = 0
        for names, facts_of in by_kind.values():
            if len(names) > left:
                cut += len(names) - left
                del names[left:], facts_of[left:]
            left -= len(names)
        if cut:
            self.cut[node.name] = cut
        else:
            self.cut.pop(node.name, None)
        return by_kind

    def _write_probes(self, node: Node, pairs: str) -> None:
        seconds, success = self._probe_seconds.opening, self._probe_success.opening
        took, worked = [], []
        for probe, held in node.sections.items():
            key = f'{pairs},probe="{escape(probe)}"}}'
            if not held.stale:
                took.append(f"{seconds}{key} {held.duration_seconds!r}\n")
            if not held.stale or node.reporting:
                # A node that reports while one of its probes has long said nothing: that probe hangs.
                worked.append(f"{success}{key} {'1' if held.complete else '0'}\n")
        self._probe_seconds.put(node.name, "".join(took))
        self._probe_success.put(node.name, "".join(worked))

    def _write_node_info(self, node: Node, pairs: str) -> None:
        """The node in words, by its birth too: who it is does not go stale when it falls silent."""
        birth = node.record.birth
        more: dict[str, Value] = (
            {"os_name": birth.os_name, "kernel": birth.kernel, "agent_version": birth.agent_version}
            if birth
            else {}
        )
        facts = node.resources.get(("node", node.name), {})
        self._kinds["node"].write_info(node.name, [(pairs, facts)], more)


class AlertSeries:
    """The series of all alerts. Alerts are few and change together, so they are written anew for every page."""

    def __init__(self) -> None:
        self._state = Family(
            "holdfast_alert_state", FamilyType.GAUGE, "1 for every alert that is pending or firing."
        )
        self._counts = Family("holdfast_alerts", FamilyType.GAUGE, "How many alerts are pending or firing.")
        self.families = [self._state, self._counts]
        self._next: dict[str, bytes] = {}
        self._tally: dict[tuple[str, str], int] = {}

    def begin(self) -> None:
        """Start a new set of lines; the page keeps the old one until `end`."""
        self._next = {}
        self._tally = {
            (severity, state.value): 0
            for severity in SEVERITIES
            for state in (AlertState.PENDING, AlertState.FIRING)
        }

    def add(self, rows: Iterable[Tracked]) -> None:
        """Take in some of the alerts."""
        opening = self._state.opening
        for tracked in rows:
            alert = tracked.alert
            pairs = labels(
                ("alertname", alert.alertname),
                ("severity", alert.severity),
                ("node", alert.node),
                ("resource", alert.resource),
                ("state", alert.state.value),
            )
            # Keyed by its labels: a series that came twice would cost the whole page.
            self._next[pairs] = f"{opening}{pairs}}} 1\n".encode(errors="replace")
            group = (alert.severity, alert.state.value)
            self._tally[group] = self._tally.get(group, 0) + 1

    def end(self) -> None:
        """Put the new set in force."""
        self._state.lines = self._next
        opening = self._counts.opening
        self._counts.put(
            "",
            "".join(
                f"{opening}{labels(('severity', severity), ('state', state))}}} {count}\n"
                for (severity, state), count in self._tally.items()
            ),
        )
