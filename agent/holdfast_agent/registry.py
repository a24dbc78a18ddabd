"""Which probes there are: the folder `holdfast_agent.probes` is the list."""

import importlib
import pkgutil
import sys
from inspect import isabstract

from msgspec import Struct

from holdfast_agent import probes
from holdfast_agent.probe import Poll, Probe, Watch

WATCH_CHECK_SECONDS = 60.0
"""How often a probe that only watches is asked whether it still could; that it ended, it says by itself."""
PLATFORM_SUFFIXES = {"_linux": "linux", "_windows": "win32"}


class ProbeKind(Struct, frozen=True, kw_only=True):
    """One probe as it is declared: a poll, a watch, or both under one name."""

    name: str
    classes: tuple[type[Probe], ...]
    """One class that may be both, or a poll and a watch."""

    @property
    def settings_type(self) -> type[Struct]:
        return self.classes[0].settings_type

    @property
    def cost(self) -> str:
        return self.classes[0].cost

    @property
    def emits(self) -> tuple[tuple[str, str], ...]:
        """Every fact it may state, with the kind of resource."""
        return tuple(dict.fromkeys(pair for class_ in self.classes for pair in class_.emits))

    @property
    def events(self) -> tuple[str, ...]:
        """Every type of event it may report."""
        return tuple(dict.fromkeys(event for class_ in self.classes for event in class_.events))

    @property
    def looks(self) -> bool:
        """Whether it is a poll."""
        return any(issubclass(class_, Poll) for class_ in self.classes)

    def timing(self, interval: float) -> tuple[float, float]:
        """The period and the time-out in seconds that hold unless the configuration says otherwise."""
        poll = next((class_ for class_ in self.classes if issubclass(class_, Poll)), None)
        if poll is None:
            return max(WATCH_CHECK_SECONDS, interval), Poll.timeout_seconds
        return max(poll.period_seconds, interval), poll.timeout_seconds


def module_platform(name: str) -> str | None:
    """The `sys.platform` a module of this name is for; None for all."""
    return next((value for suffix, value in PLATFORM_SUFFIXES.items() if name.endswith(suffix)), None)


def probe_classes(platform: str = sys.platform) -> list[type[Probe]]:
    """The probe classes for `platform`, by name. Modules for another platform are not even imported."""
    found: list[type[Probe]] = []
    for module_info in pkgutil.iter_modules(probes.__path__):
        if module_platform(module_info.name) not in (None, platform):
            continue
        module = importlib.import_module(f"{probes.__name__}.{module_info.name}")
        found += [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, Probe)
            and value.__module__ == module.__name__
            and not isabstract(value)
            and platform in value.platforms
        ]
    return sorted(found, key=lambda class_: class_.name)


def probe_kinds(classes: list[type[Probe]] | None = None) -> dict[str, ProbeKind]:
    """Name → probe. Raises AssertionError when two files claim one name or a name has two polls."""
    grouped: dict[str, list[type[Probe]]] = {}
    for class_ in probe_classes() if classes is None else classes:
        grouped.setdefault(class_.name, []).append(class_)
    for name, members in grouped.items():
        assert sum(issubclass(member, Poll) for member in members) <= 1, f"probe {name} has two polls"
        assert sum(issubclass(member, Watch) for member in members) <= 1, f"probe {name} has two watches"
        assert len({member.settings_type for member in members}) == 1, (
            f"probe {name} has two kinds of settings"
        )
    return {name: ProbeKind(name=name, classes=tuple(members)) for name, members in sorted(grouped.items())}
