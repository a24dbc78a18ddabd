"""The series of nodes and alerts as ready lines of the Prometheus text format, kept per metric family.

A page must list each family whole, while news comes per node. So a family is a dict of node → that node's lines,
already encoded: news of a node rewrites its entries, and a page is the families joined. prometheus_client formats every
sample anew at every scrape, which costs many times as much; `tests/bench/exposition_bench.py` says how many.

Only what changed is rewritten. The core replaces a resource's dict of facts and never changes it in place, so the same
dict means the same lines, and of another dict only the families of the facts that differ are touched: between two
reports that is the free space and the uptime, not the fifty services. A stale fact is not in the dict, and its series is
not on the page.

What agents say is hostile input. Label values are escaped and cut, numbers that no machine has are left out, and a
node's resources beyond a limit have no series, which is counted.
"""

from collections.abc import Iterable, Mapping

from holdfast_collector.core.node import Node, ResourceKey
from holdfast_collector.core.record import Tracked
from holdfast_collector.text_format import Family, FamilyType, escape, labels
from holdfast_rules import AlertState
from holdfast_wire import Birth
from holdfast_wire.fact import FACTS_OF, Fact, FactType, ResourceKind
from holdfast_wire.message import Value

RESOURCES_MAX = 2000
"""Per node. 200 mounts and 300 services are an unusually large machine; one node must not fill the page of all."""
NUMBER_MAX = 2.0**64
"""No size, count or time goes beyond it; Prometheus refuses a whole page for one number beyond float64."""

SEVERITIES = ("page", "ticket", "info")

Facts = Mapping[str, Value]


class _Samples:
    """The family of one fact."""

    __slots__ = ("_fact", "_flag", "_lowest", "family")

    def __init__(self, fact: Fact) -> None:
        self.family = Family(fact.metric, FamilyType.COUNTER if fact.counter else FamilyType.GAUGE, fact.help)
        self._fact = fact.name
        self._flag = fact.type is FactType.BOOL
        self._lowest = 0.0 if fact.counter else -NUMBER_MAX

    def write(self, node: str, rows: list[tuple[str, Facts]]) -> None:
        """Rewrite a node's lines. `rows`: labels and facts of each resource."""
        name, opening = self._fact, self.family.opening
        if self._flag:
            lines = [
                f"{opening}{pairs}}} {'1' if facts[name] else '0'}\n"
                for pairs, facts in rows
                if name in facts
            ]
        else:
            lowest = self._lowest
            lines = [
                f"{opening}{pairs}}} {value!r}\n"
                for pairs, facts in rows
                if (value := facts.get(name)) is not None and lowest <= value <= NUMBER_MAX  # type: ignore[operator]  # the codec lets only numbers through
            ]
        self.family.put(node, "".join(lines))


class _KindSeries:
    """The families of one kind of resource."""

    def __init__(self, kind: ResourceKind, key_facts: tuple[str, ...] = ()) -> None:
        self._kind = kind
        self.key_facts = key_facts
        """Facts that identify the resource to a person, and so are labels of every series."""
        declared = FACTS_OF[kind.value].values()
        self._samples = {fact.name: _Samples(fact) for fact in declared if fact.metric}
        self._info_facts = [fact.name for fact in declared if fact.label and fact.name not in key_facts]
        self._info = Family(
            f"holdfast_{kind.value}_info", FamilyType.INFO, f"What is known of the {kind.value}, in words."
        )
        self.facts = {*self._samples, *self._info_facts}
        """All facts that are on the page in some way, those of the labels aside."""
        self.families = [self._info, *(samples.family for samples in self._samples.values())]

    def write(self, node: str, resources: Mapping[str, Facts], touched: set[str], more: Facts) -> None:
        """Rewrite the families of the facts `touched`. `more`: what is known besides the facts, of every resource."""
        pairs = f'node="{node}"'
        rows = [(self._labels(pairs, name, facts), facts) for name, facts in resources.items()]
        for fact in touched:
            samples = self._samples.get(fact)
            if samples is not None:
                samples.write(node, rows)
        if not touched.isdisjoint(self._info_facts):
            self._write_info(node, rows, more)

    def _labels(self, pairs: str, name: str, facts: Facts) -> str:
        """The labels of every series of one resource."""
        if self._kind is ResourceKind.NODE:
            return pairs
        key = "".join([f',{fact}="{escape(str(facts.get(fact, "")))}"' for fact in self.key_facts])
        return f'{pairs},{self._kind.value}="{escape(name)}"{key}'

    def _write_info(self, node: str, rows: list[tuple[str, Facts]], more: Facts) -> None:
        lines = []
        for pairs, facts in rows:
            known = {**more, **{name: facts[name] for name in self._info_facts if name in facts}}
            if known:
                described = labels(*((name, str(value)) for name, value in known.items()))
                lines.append(f"{self._info.opening}{pairs},{described}}} 1\n")
        self._info.put(node, "".join(lines))


_KINDS: tuple[tuple[ResourceKind, tuple[str, ...]], ...] = (
    (ResourceKind.NODE, ()),
    (ResourceKind.VOLUME, ("mountpoint",)),
    (ResourceKind.DEVICE, ()),
    (ResourceKind.SERVICE, ()),
    (ResourceKind.STATE_PATH, ("service", "path")),
)
"""What has series, the most important first: a node with too much loses from the end."""
_RANK = {kind.value: rank for rank, (kind, _) in enumerate(_KINDS)}

_NODE_UP = (
    "1 while the node reports, 0 when it is silent, lost or stopped. "
    "Absent until a collector that has just started has watched for a grace period."
)
_LAST_REPORT = "When the newest report arrived, by the collector's clock, Unix time."
_RESOURCES_CUT = "Resources without series, because the node has more than the page carries."
_PROBE_SECONDS = "How long the probe's newest run took."
_PROBE_SUCCESS = (
    "1 when the probe's newest run gave facts or found nothing of its kind, 0 when it did not. "
    "Absent when the node is silent."
)


class _Written:
    """What a node's lines were made of."""

    __slots__ = ("birth", "kinds", "reporting")

    def __init__(self) -> None:
        self.kinds: dict[str, dict[str, Facts]] = {kind.value: {} for kind, _ in _KINDS}
        self.birth: Birth | None = None
        self.reporting: bool | None = None


class NodeSeries:
    """The series of all nodes."""

    def __init__(self) -> None:
        self._kinds = {kind.value: _KindSeries(kind, key_facts) for kind, key_facts in _KINDS}
        self._written: dict[str, _Written] = {}
        self.cut: dict[str, int] = {}
        """Node → resources left out, where there are any."""
        gauge = FamilyType.GAUGE
        self._up = Family("holdfast_node_up", gauge, _NODE_UP)
        self._last_report = Family("holdfast_node_last_report_timestamp_seconds", gauge, _LAST_REPORT)
        self._resources_cut = Family("holdfast_node_resources_cut", gauge, _RESOURCES_CUT)
        self._probe_seconds = Family("holdfast_agent_probe_duration_seconds", gauge, _PROBE_SECONDS)
        self._probe_success = Family("holdfast_agent_probe_success", gauge, _PROBE_SUCCESS)
        own = [self._up, self._last_report, self._resources_cut, self._probe_seconds, self._probe_success]
        self.families: list[Family] = [
            *own,
            *(family for kind in self._kinds.values() for family in kind.families),
        ]
        """In the order of the page."""

    def write(self, node: Node) -> None:
        """Rewrite what changed of a node's lines."""
        name = node.name
        written = self._written.get(name)
        if written is None:
            written = self._written[name] = _Written()
        if written.reporting is not node.reporting:
            written.reporting = node.reporting
            up = "" if node.reporting is None else f'{self._up.opening}node="{name}"}} {node.reporting:d}\n'
            self._up.put(name, up)
        self.write_last_report(node)
        self._write_probes(node)
        touched = _renew(written, self._shown(node), self._kinds)
        birth = node.record.birth
        if written.birth is not birth:
            written.birth = birth
            # Who a node is does not go stale when it falls silent: the info line keeps what the birth said.
            touched.setdefault("node", set()).add("kernel")
        for kind, facts in touched.items():
            more = _by_birth(birth) if kind == "node" else {}
            self._kinds[kind].write(name, written.kinds[kind], facts, more)

    def write_last_report(self, node: Node) -> None:
        """Rewrite when the node was heard of: it moves with every report, whatever else does not."""
        at = node.last_report_at
        # A node's name needs no escaping: the wire's topic admits nothing that would.
        line = f'{self._last_report.opening}node="{node.name}"}} {at:.3f}\n' if at > 0 else ""
        self._last_report.put(node.name, line)

    def forget(self, node: str) -> None:
        """Remove all lines of a node."""
        for family in self.families:
            family.lines.pop(node, None)
        self._written.pop(node, None)
        self.cut.pop(node, None)

    def _shown(self, node: Node) -> Mapping[ResourceKey, Facts]:
        """A node's resources, cut to what the page carries."""
        if len(node.resources) <= RESOURCES_MAX and node.name not in self.cut:
            return node.resources
        known = [(key, facts) for key, facts in node.resources.items() if key[0] in _RANK]
        known.sort(key=lambda resource: _RANK[resource[0][0]])
        cut = len(known) - RESOURCES_MAX
        if cut > 0:
            self.cut[node.name] = cut
            line = f'{self._resources_cut.opening}node="{node.name}"}} {cut}\n'
            self._resources_cut.put(node.name, line)
        else:
            self.cut.pop(node.name, None)
            self._resources_cut.put(node.name, "")
        return dict(known[:RESOURCES_MAX])

    def _write_probes(self, node: Node) -> None:
        seconds, success = self._probe_seconds.opening, self._probe_success.opening
        took, worked = [], []
        for probe, held in node.sections.items():
            key = f'node="{node.name}",probe="{escape(probe)}"}}'
            if not held.stale:
                took.append(f"{seconds}{key} {held.duration_seconds!r}\n")
            if not held.stale or node.reporting:
                # A node that reports while one of its probes has long said nothing: that probe hangs.
                worked.append(f"{success}{key} {'1' if held.complete else '0'}\n")
        self._probe_seconds.put(node.name, "".join(took))
        self._probe_success.put(node.name, "".join(worked))


def _renew(
    written: _Written, resources: Mapping[ResourceKey, Facts], kinds: Mapping[str, _KindSeries]
) -> dict[str, set[str]]:
    """Bring `written` up to date; kind → facts that some resource of it has anew, has no more, or has otherwise."""
    touched: dict[str, set[str]] = {}
    known = 0
    for (kind, name), facts in resources.items():
        rows = written.kinds.get(kind)
        if rows is None:
            continue
        known += 1
        before = rows.get(name)
        if before is facts:
            continue
        rows[name] = facts
        differing = touched.setdefault(kind, set())
        if before is not None:
            differing.update([fact for fact, value in facts.items() if before.get(fact) != value])
            differing |= before.keys() - facts.keys()
        if before is None or not differing.isdisjoint(kinds[kind].key_facts):
            differing |= kinds[kind].facts
    if known != sum(map(len, written.kinds.values())):
        for kind, rows in written.kinds.items():
            for name in [name for name in rows if (kind, name) not in resources]:
                del rows[name]
                touched.setdefault(kind, set()).update(kinds[kind].facts)
    return touched


def _by_birth(birth: Birth | None) -> dict[str, Value]:
    """The node in words, as its agent said at its start."""
    if birth is None:
        return {}
    return {"os_name": birth.os_name, "kernel": birth.kernel, "agent_version": birth.agent_version}


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
