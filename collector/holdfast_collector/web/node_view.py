"""One node's page: what it says, before it is HTML.

What is unknown is shown as carefully as what is bad: why nobody can see it, what would change that, and what was seen
last, marked as the past it is.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from holdfast_collector.context import Context
from holdfast_collector.core.node import HeldSection, Node
from holdfast_collector.core.record import EventCount, Tracked
from holdfast_collector.web import alert_view
from holdfast_collector.web.alert_view import AlertView
from holdfast_collector.web.api import alerts_of
from holdfast_collector.web.durability_view import DurabilityView, durability
from holdfast_collector.web.evidence import Grounds
from holdfast_collector.web.fleet import NodeState, state_of
from holdfast_collector.web.history import HistoryShape
from holdfast_collector.web.history_view import HappenedView, history_views
from holdfast_collector.web.state_view import StateView, state_views
from holdfast_collector.web.verdict_view import VerdictView, verdict_views
from holdfast_collector.web.witness_view import WitnessView, witness_views
from holdfast_collector.web.words import NEVER, Moment, counted, moment, percent, plain, size, span
from holdfast_rules import AlertState
from holdfast_wire import SectionStatus
from holdfast_wire.message import Value

ALERTS_SHOWN = 100
EVENTS_SHOWN = 50
RESOLVED_SHOWN = 50
SERVICES_SHOWN = 500
VERDICTS_SHOWN = 500
VOLUMES_SHOWN = 500

Facts = Mapping[str, Value]

STATUS_WORDS = {
    SectionStatus.OK: "works",
    SectionStatus.NO_DATA: "nothing of its kind here",
    SectionStatus.UNSUPPORTED: "impossible here",
    SectionStatus.DENIED: "not permitted",
    SectionStatus.TIMEOUT: "hangs",
    SectionStatus.ERROR: "broken",
}


class Row(Struct, frozen=True):
    """A name and what stands beside it."""

    name: str
    text: str
    tone: str = "plain"
    when: Moment = NEVER


class ProbeView(Struct, frozen=True, kw_only=True):
    """How one probe does."""

    name: str
    words: str
    tone: str
    why: str
    cost: str
    """What nobody knows because of it."""
    missing: list[tuple[str, str]]
    looked: Moment
    took: str
    period: str


class VolumeView(Struct, frozen=True, kw_only=True):
    """One mounted filesystem."""

    mountpoint: str
    source: str
    fstype: str
    free: str
    used_percent: int | None
    """0 to 100; None when nobody knows."""
    inodes: str
    durability: DurabilityView
    writes: str
    tone: str
    alerts: list[str]
    as_of: Moment
    """Never, while the facts are fresh."""


class ServiceView(Struct, frozen=True, kw_only=True):
    """One service."""

    name: str
    description: str
    words: str
    tone: str
    why: str
    restarts: str
    since: Moment
    alerts: list[str]
    as_of: Moment


class NodeView(Struct, frozen=True, kw_only=True):
    """The whole page."""

    now: Moment
    name: str
    state: NodeState
    state_text: str
    last_report: Moment
    warnings: list[str]
    firing: list[AlertView]
    pending: list[AlertView]
    resolved: list[AlertView]
    verdicts: list[VerdictView]
    witnesses: list[WitnessView]
    volumes: list[VolumeView]
    volumes_why: str
    """Why there are none."""
    services: list[ServiceView]
    """What does not run as it should."""
    services_running: list[ServiceView]
    services_other: list[ServiceView]
    """Neither running nor failed."""
    services_unknown: list[ServiceView]
    """What was said of them is the past."""
    services_why: str
    kept: list[StateView]
    """Where services keep what must last."""
    probes: list[ProbeView]
    happened: list[HappenedView] | None
    """None: the store does not say."""
    events: list[Row]
    machine: list[Row]
    identity: list[Row]


def node_view(context: Context, node: Node, past: Iterable[HistoryShape] | None) -> NodeView:
    """Everything one node's page says. `past`: what happened, newest first; None when nobody can tell."""
    now = context.now()
    rows, ended = alerts_of(context, node.name)
    names: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.alert.state is AlertState.FIRING:
            names.setdefault((row.alert.kind, row.alert.resource), []).append(row.alert.alertname)
    volumes = [
        _volume(name, facts, names.get(("volume", name), []), as_of)
        for name, facts, as_of in _known(node, "volume", now)
    ]
    volumes.sort(key=lambda volume: (volume.tone != "bad", not volume.alerts, volume.mountpoint))
    services = [
        _service(name, facts, names.get(("service", name), []), as_of, now)
        for name, facts, as_of in _known(node, "service", now, "services")
    ]
    services.sort(key=lambda service: (service.tone != "bad", not service.alerts, service.name))
    troubled = [service for service in services if service.tone == "bad" or service.alerts]
    calm = [service for service in services if not (service.tone == "bad" or service.alerts)]
    return NodeView(
        now=moment(now, now),
        name=node.name,
        state=state_of(node),
        state_text=_state_text(node, now),
        last_report=moment(node.last_report_at, now),
        warnings=_warnings(node, now),
        firing=alert_view.active(_in(rows, AlertState.FIRING), context.collector.alerts, now),
        pending=alert_view.active(_in(rows, AlertState.PENDING), context.collector.alerts, now),
        resolved=alert_view.resolved(ended[:RESOLVED_SHOWN], now),
        verdicts=verdict_views(
            context.collector.rulings.of(node.name),
            Grounds(context.collector, node, now),
            now,
            VERDICTS_SHOWN,
        ),
        witnesses=witness_views(node, now)[:VOLUMES_SHOWN],
        volumes=volumes[:VOLUMES_SHOWN],
        volumes_why="" if volumes else _why_none(node, "volume"),
        services=troubled[:SERVICES_SHOWN],
        services_running=[service for service in calm if service.tone == "good"][:SERVICES_SHOWN],
        services_other=[service for service in calm if service.tone == "quiet"][:SERVICES_SHOWN],
        services_unknown=[service for service in calm if service.tone == "unknown"][:SERVICES_SHOWN],
        services_why="" if services else _why_none(node, "service"),
        kept=state_views(
            _known(node, "state_path", now),
            {name: facts for name, facts, _ in _known(node, "service", now, "state_paths")},
            {name: facts for name, facts, _ in _known(node, "volume", now)},
            names,
        ),
        probes=[_probe(node, held, now) for held in node.sections.values()],
        happened=history_views(past, now) if past is not None else None,
        events=_events(node, now),
        machine=_machine(node, now),
        identity=_identity(node, now),
    )


def _in(rows: Iterable[Tracked], state: AlertState) -> list[Tracked]:
    return alert_view.gravest((row for row in rows if row.alert.state is state), ALERTS_SHOWN)


def _known(node: Node, kind: str, now: float, probe: str = "") -> list[tuple[str, Facts, Moment]]:
    """Resources of a kind: name, facts, and when they were seen last if that is the past.

    `probe`: how the name of the probes begins that count. A service is also one of which only its paths are known, and
    what is known of its paths lately says nothing about whether it runs.
    """
    sections = [held for held in node.sections.values() if held.section.probe.startswith(probe)]
    fresh = {name: facts for (known, name), facts in node.resources.items() if known == kind}
    rows: list[tuple[str, Facts, Moment]] = [
        (name, facts, NEVER) for name, facts in fresh.items() if _stated_fresh(sections, (kind, name))
    ]
    listed = {name for name, _, _ in rows}
    for held in sections:
        if held.stale:
            seen = moment(held.observed_at, now)
            rows += [
                (name, {**facts, **fresh.get(name, {})}, seen)
                for (known, name), facts in held.stated.items()
                if known == kind and name not in listed
            ]
    return rows


def _stated_fresh(sections: Iterable[HeldSection], key: tuple[str, str]) -> bool:
    """Whether a probe says anything of it now. Counts of events alone are history."""
    return any(not held.stale and key in held.stated for held in sections)


def _why_none(node: Node, kind: str) -> str:
    probe = "volumes" if kind == "volume" else "services"
    for held in node.sections.values():
        if held.section.probe.startswith(probe):
            if held.section.status is SectionStatus.NO_DATA:
                return "There is none here."
            return f"Unknown: the probe {held.section.probe} says {held.section.status.value}. {plain(held.section.detail)}"
    return "Unknown: no probe has said anything of them yet."


def _state_text(node: Node, now: float) -> str:
    since = moment(node.record.session_since, now).ago
    match state_of(node):
        case NodeState.REPORTING:
            return f"every {span(node.record.interval_seconds)}"
        case NodeState.SILENT:
            return f"its session stands, but no report came for {span(now - node.last_report_at)}"
        case NodeState.LOST:
            return f"the broker lost it {since}: crash, power or network"
        case NodeState.STOPPED:
            return f"its agent said goodbye {since}"
        case NodeState.WAITING:
            return "known from before; this collector has not watched for long enough to say"


def _warnings(node: Node, now: float) -> list[str]:
    """What makes everything else on the page doubtful."""
    warnings = [
        f"Another installation ({plain(install_id)}) speaks under this name, last {moment(at, now).ago}: a clone, a "
        "restored machine, or two agents with one name. Its messages are refused."
        for install_id, at in node.claimants.items()
    ]
    if node.spool is not None and node.spool.in_memory:
        warnings.append(
            f"The agent cannot write its spool: what it must deliver is in memory only. {plain(node.spool.detail)}"
        )
    if node.spool is not None and node.spool.dropped_total:
        warnings.append(f"The agent lost {counted(node.spool.dropped_total, 'message')} for want of room.")
    stale = sum(held.stale for held in node.sections.values())
    if stale:
        warnings.append(
            f"{counted(stale, 'probe')} of {len(node.sections)} said nothing for too long: "
            "what is marked “as of” below is the past."
        )
    return warnings


def _probe(node: Node, held: HeldSection, now: float) -> ProbeView:
    section = held.section
    birth = node.record.birth
    capability = next(
        (known for known in (birth.capabilities if birth else []) if known.name == section.probe), None
    )
    why = section.detail or (capability.reason if capability and not capability.available else "")
    tone = "good" if section.status is SectionStatus.OK else "quiet"
    if section.status in {SectionStatus.DENIED, SectionStatus.TIMEOUT, SectionStatus.ERROR}:
        tone = "bad"
    words = STATUS_WORDS[section.status]
    if held.stale:
        tone, words = "unknown", f"no word; before that: {words}"
    return ProbeView(
        name=plain(section.probe),
        words=words,
        tone=tone,
        why=plain(why),
        cost=plain(capability.cost) if capability and not capability.available else "",
        missing=[(plain(name), plain(reason)) for name, reason in section.missing.items()],
        looked=moment(held.observed_at, now),
        took=span(held.duration_seconds),
        period=span(section.period_seconds),
    )


def _volume(name: str, facts: Facts, alerts: list[str], as_of: Moment) -> VolumeView:
    free, size_bytes, ratio = (_number(facts, key) for key in ("free_bytes", "size_bytes", "free_ratio"))
    if ratio is None and free is not None and size_bytes:
        ratio = free / size_bytes
    words = f"{percent(ratio)} free" if ratio is not None else "unknown"
    if free is not None and size_bytes is not None:
        words += f", {size(free)} of {size(size_bytes)}"
    tone, writes = _writes(facts)
    inodes = _number(facts, "inodes_free_ratio")
    return VolumeView(
        mountpoint=plain(str(facts.get("mountpoint", name))),
        source=plain(str(facts.get("source", ""))),
        fstype=plain(str(facts.get("fstype", ""))),
        free=words,
        used_percent=None if ratio is None else max(0, min(100, round((1 - ratio) * 100))),
        inodes=f"{percent(inodes)} of inodes" if inodes is not None and inodes < 0.2 else "",
        durability=durability(facts),
        writes=writes,
        tone="unknown" if as_of is not NEVER and tone != "bad" else tone,
        alerts=alerts,
        as_of=as_of,
    )


def _writes(facts: Facts) -> tuple[str, str]:
    """Whether the volume takes writes, in words."""
    if facts.get("expected_mounted") is True and facts.get("mounted") is False:
        return "bad", plain(str(facts.get("mount_trouble", ""))) or "nothing is mounted here"
    reason = plain(str(facts.get("unwritable_reason", "")))
    if facts.get("reachable") is False:
        return "bad", f"does not answer. {reason}".strip()
    if facts.get("dead") is True:
        return "bad", reason or "the filesystem has given up, though it looks mounted"
    match facts.get("writable"):
        case True:
            return "good", "yes, in memory only" if facts.get("volatile") is True else "yes"
        case False if facts.get("expected_writable") is True:
            return "bad", f"NO: {reason}" if reason else "NO"
        case False:
            return "quiet", f"no, nor should it: {reason}" if reason else "no, nor should it"
        case _:
            return "unknown", "unknown"


def _service(name: str, facts: Facts, alerts: list[str], as_of: Moment, now: float) -> ServiceView:
    tone, words = _running(facts)
    why = []
    result = str(facts.get("result", ""))
    if facts.get("failed") is True or result not in {"", "success"}:
        why.append(f"result {result}" if result else "failed")
        if (status := _number(facts, "exit_status")) is not None:
            why.append(f"exit status {status:.0f}")
    if (failures := _number(facts, "unit_failed_total")) is not None and failures > 0:
        why.append(f"failed {counted(int(failures), 'time')} since known")
    if last := str(facts.get("unit_failed_last", "")):
        why.append(f"last: {last}")
    restarts = _number(facts, "restarts_total")
    return ServiceView(
        name=plain(name),
        description=plain(str(facts.get("description", ""))),
        words=words,
        tone="unknown" if as_of is not NEVER else tone,
        why=plain("; ".join(why)),
        restarts="unknown" if restarts is None else f"{restarts:.0f}",
        since=moment(_number(facts, "start_timestamp_seconds"), now),
        alerts=alerts,
        as_of=as_of,
    )


def _running(facts: Facts) -> tuple[str, str]:
    if facts.get("start_limit_hit") is True:
        return "bad", "failed; systemd has given up starting it"
    if facts.get("failed") is True:
        return "bad", "failed"
    if facts.get("restart_looping") is True:
        return "bad", "starting again and again"
    states = "/".join(str(facts[key]) for key in ("active_state", "sub_state") if key in facts)
    match facts.get("up"):
        case True:
            return "good", "running" if states in {"", "active/running"} else plain(states)
        case False:
            return "quiet", plain(states) or "not running"
        case _:
            return "unknown", "unknown"


def _events(node: Node, now: float) -> list[Row]:
    counts: list[EventCount] = [count for counts in node.counts.values() for count in counts.values()]
    counts.sort(key=lambda count: -count.last_at)
    return [
        Row(
            f"{plain(count.type)} on {plain(count.resource)}",
            f"{counted(count.total, 'time')}. {plain(count.last)}",
            "bad" if count.type in {"kernel_data_loss", "kernel_filesystem_error"} else "plain",
            moment(count.last_at, now),
        )
        for count in counts[:EVENTS_SHOWN]
    ]


def _machine(node: Node, now: float) -> list[Row]:
    facts = node.resources.get(("node", node.name), {})
    rows = [
        Row("System", " · ".join(_texts(facts, "os_name", "kernel", "architecture")) or _by_birth(node)),
        Row("Hardware", " ".join(_texts(facts, "vendor", "product")) or "unknown"),
        Row("Booted", "unknown", "unknown")
        if (booted := _number(facts, "boot_timestamp_seconds")) is None
        else Row("Booted", "", when=moment(booted, now)),
        _boot_end(facts),
        _clock(facts),
    ]
    if (memory := _number(facts, "memory_bytes")) is not None:
        available = _number(facts, "memory_available_bytes")
        text = size(memory) if available is None else f"{size(memory)}, {size(available)} available"
        rows.append(Row("Memory", text))
    if (dirty := _number(facts, "dirty_bytes")) is not None:
        rows.append(Row("Not yet on disk", f"{size(dirty)}: lost if the machine stops now"))
    return rows


def _boot_end(facts: Facts) -> Row:
    evidence = plain(str(facts.get("boot_dirty_evidence", "")))
    match facts.get("boot_dirty"):
        case True:
            return Row("Run before this boot", f"ended without a shutdown. {evidence}".strip(), "bad")
        case False:
            return Row("Run before this boot", f"was shut down. {evidence}".strip())
        case _:
            return Row("Run before this boot", evidence or "unknown how it ended", "unknown")


def _clock(facts: Facts) -> Row:
    error = _number(facts, "clock_error_seconds")
    wrong = "" if error is None else f", wrong by at most {span(error)}"
    match facts.get("clock_synchronized"):
        case True:
            return Row("Clock", f"synchronised{wrong}")
        case False:
            return Row("Clock", f"not synchronised{wrong}", "bad")
        case _:
            return Row("Clock", "unknown", "unknown")


def _by_birth(node: Node) -> str:
    birth = node.record.birth
    return f"{plain(birth.os_name)} · {plain(birth.kernel)}" if birth else "unknown"


def _identity(node: Node, now: float) -> list[Row]:
    record, birth = node.record, node.record.birth
    spool = node.spool
    rows = [
        Row(
            "Agent",
            f"{plain(birth.agent_version)}, its run before ended {birth.previous_stop}"
            if birth
            else "unknown",
        ),
        Row(
            "Session",
            f"{record.session}, connection {record.connection}",
            when=moment(record.session_since, now),
        ),
        Row("Newest message", f"epoch {node.position.epoch}, number {node.position.seq}"),
        Row("First seen", "", when=moment(record.first_seen_at, now)),
        Row("Installation", plain(record.install_id)),
        Row("Boot", plain(record.boot_id)),
        Row("Boots known", f"{len(record.boots)}"),
    ]
    if spool is None:
        return [*rows, Row("Spool", "unknown", "unknown")]
    waiting = f"{counted(spool.messages, 'message')} to deliver, {size(spool.bytes)}"
    return [*rows, Row("Spool", waiting, "bad" if spool.in_memory or spool.dropped_total else "plain")]


def _texts(facts: Facts, *names: str) -> list[str]:
    return [plain(str(facts[name])) for name in names if facts.get(name)]


def _number(facts: Facts, name: str) -> float | None:
    value = facts.get(name)
    return value if isinstance(value, int | float) else None
