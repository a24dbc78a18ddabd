"""What `holdfast up` shows: what was found on this machine, then what happens, as it happens.

Alerts come over the collector's stream, the moment they fire; the line at the end is looked up every second. A stream
that breaks is opened again, and whatever was missed meanwhile is found by comparison.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from holdfast.api import CollectorApi, Refused, Unreachable
from holdfast.terminal import Terminal, printable

WATCHDOG = "Watchdog"
"""Always fires, to show that alerts can."""
VOLUMES_MAX = 8
"""Named one by one; the page has them all."""
_GIB = 1024**3
_WORKS = {"ok", "no_data"}
_AGAIN_SECONDS = 1.0


def findings(detail: Any, privileges: str) -> Iterator[str]:
    """What there is on this machine, and what cannot be known of it and why. `detail`: `/api/v1/nodes/<this>`."""
    node = detail["node"]
    yield f"agent      node {node['node']}: {node['os_name']}, kernel {node['kernel']}, {privileges}"
    yield f"sees       {_seen(detail['resources'])}"
    for volume in _volumes(detail["resources"]):
        yield f"           {volume}"
    for name, reason, cost in _blindness(detail):
        yield f"cannot see {name}: {reason}"
        if cost:
            yield f"           so {cost}"


def places(url: str, folder: Path, broker_url: str, command: str) -> list[str]:
    """Where to look, and what to type; `command` is how a shell finds `holdfast`."""
    return [
        f"page       {url}/",
        f"metrics    {url}/metrics",
        f"API        {url}/api/v1/status",
        f"logs       {folder / 'log'}",
        f"alerts     {command} alerts --url {url}",
        f"more nodes {command} simulate --nodes 100 --broker {broker_url}",
    ]


def _seen(resources: list[Any]) -> str:
    counts = Counter(resource["kind"] for resource in resources)
    named = [_count(counts[kind], kind) for kind in ("volume", "service", "device") if counts[kind]]
    return ", ".join(named) or "no volume and no service"


def _volumes(resources: list[Any]) -> Iterator[str]:
    """`/ (ext4, 12 GiB of 40 GiB free)`, the first few by name."""
    volumes = sorted((row for row in resources if row["kind"] == "volume"), key=lambda row: str(row["name"]))
    for row in volumes[:VOLUMES_MAX]:
        facts = row["facts"]
        room = ""
        if "free_bytes" in facts and "size_bytes" in facts:
            room = f", {facts['free_bytes'] / _GIB:.1f} of {facts['size_bytes'] / _GIB:.1f} GiB free"
        yield f"{row['name']} ({facts.get('fstype', 'unknown')}{room})"
    if len(volumes) > VOLUMES_MAX:
        yield f"and {len(volumes) - VOLUMES_MAX} more"


def _blindness(detail: Any) -> Iterator[tuple[str, str, str]]:
    """(probe or fact, reason and cure, what nobody will know), each once; what one probe misses for one reason, together."""
    costs = {capability["name"]: capability["cost"] for capability in detail["capabilities"]}
    told = set()
    for section in detail["sections"]:
        if section["status"] not in _WORKS:
            told.add(section["probe"])
            yield section["probe"], section["detail"], costs.get(section["probe"], "")
            continue
        alike: dict[str, list[str]] = {}
        for name, reason in section["missing"].items():
            told.add(f"{section['probe']}.{name}")
            alike.setdefault(reason, []).append(name)
        for reason, names in alike.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            yield f"{section['probe']}.{names[0]}{more}", reason, ""
    for capability in detail["capabilities"]:
        if not capability["available"] and capability["name"] not in told:
            yield capability["name"], capability["reason"], capability["cost"]


class Watching:
    """Follows one collector and tells the terminal."""

    period_seconds = 1.0

    def __init__(self, api: CollectorApi, node: str, terminal: Terminal) -> None:
        self._api = api
        self._node = node
        self._terminal = terminal
        self._firing: dict[str, Any] = {}
        """Alerts that the terminal was told of, by key."""
        self._news = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Listen to the stream, in a thread that ends with the process."""
        threading.Thread(target=self._listen, daemon=True).start()

    def end(self) -> None:
        """Say nothing more."""
        with self._lock:
            self._ended.set()

    def look(self) -> None:
        """Tell of what changed, and show the state in one line. Blocks on the collector's answers."""
        with contextlib.suppress(Unreachable, Refused):
            alerts = self._api.get("/api/v1/alerts", state="firing", limit=10_000)["alerts"]
            nodes = self._api.get("/api/v1/nodes", limit=1)
            detail = self._api.get(f"/api/v1/nodes/{self._node}")
            self._compare({alert["key"]: alert for alert in alerts})
            with self._lock:
                if not self._ended.is_set():
                    self._terminal.live(_state(nodes, detail, self._firing), time.monotonic())

    def _listen(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(Unreachable, Refused):
                for event, data in self._api.stream():
                    if event == "alert":
                        self._changed(data["transition"], data["alert"])
            self._ended.wait(_AGAIN_SECONDS)

    def _changed(self, transition: str, alert: Any) -> None:
        with self._lock:
            if transition == "fired":
                self._fired(alert)
            elif transition == "resolved":
                self._resolved(alert["key"])

    def _compare(self, firing: dict[str, Any]) -> None:
        """Tell of what the stream did not: what fired before it was opened, what was missed when it broke."""
        with self._lock:
            for alert in firing.values():
                self._fired(alert)
            # A cause may come later than what it explains.
            self._firing.update({key: alert for key, alert in firing.items() if key in self._firing})
            for key in self._firing.keys() - firing.keys():
                self._resolved(key)

    def _fired(self, alert: Any) -> None:
        if alert["key"] in self._firing or alert["alertname"] == WATCHDOG or self._ended.is_set():
            return
        self._firing[alert["key"]] = alert
        because = f" (explained by {alert['inhibited_by']})" if alert["inhibited_by"] else ""
        summary = alert["annotations"].get("summary", alert["resource"])
        self._say(f"firing     {alert['severity']:7}{alert['alertname']}  {summary}{because}")

    def _resolved(self, key: str) -> None:
        alert = self._firing.pop(key, None)
        if alert is not None and not self._ended.is_set():
            self._say(f"resolved   {alert['severity']:7}{alert['alertname']}  {alert['resource']}")

    def _say(self, text: str) -> None:
        self._terminal.line(printable(f"{time.strftime('%H:%M:%S')} {text}"))


def _state(nodes: Any, detail: Any, firing: dict[str, Any]) -> str:
    """`12:00:01 1 node reports; here 9 volumes, 31 services (1 down); 2 alerts fire: 1 page, 1 ticket`"""
    reporting = nodes["by_state"].get("reporting", 0)
    total = nodes["total"]
    fleet = f"{_count(total, 'node')} report{'s' if total == 1 else ''}"
    if reporting < total:
        fleet = f"{reporting} of {_count(total, 'node')} report"
    resources = detail["resources"]
    here = _seen([each for each in resources if each["kind"] != "device"])
    troubled = sum(map(_troubled, resources))
    trouble = f" ({troubled} in trouble)" if troubled else ""
    return f"{time.strftime('%H:%M:%S')} {fleet}; here {here}{trouble}; {counted_alerts(firing)}"


def counted_alerts(firing: dict[str, Any]) -> str:
    """`1 alert firing: 1 page; 3 more explained`; what is explained is no second page."""
    told = [alert for alert in firing.values() if not alert["inhibited_by"]]
    severities = Counter(alert["severity"] for alert in told)
    split = ", ".join(f"{severities[name]} {name}" for name in ("page", "ticket", "info") if severities[name])
    more = f"; {len(firing) - len(told)} more explained" if len(firing) > len(told) else ""
    return f"{_count(len(told), 'alert')} firing: {split}{more}" if told else f"no alert fires{more}"


def _troubled(resource: Any) -> bool:
    """A volume that should take writes and does not, a service that failed."""
    facts = resource["facts"]
    if resource["kind"] == "volume":
        return facts.get("writable") is False and facts.get("expected_writable") is True
    return resource["kind"] == "service" and facts.get("failed") is True


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
