"""The Prometheus text formats: families, their headers, labels.

https://prometheus.io/docs/instrumenting/exposition_formats/ (0.0.4) and
https://prometheus.io/docs/specs/om/open_metrics_spec/ (1.0.0). Sample lines are the same in both; headers are not.
"""

from enum import StrEnum

LABEL_LENGTH_MAX = 512
"""As long as the wire lets a name be, so only descriptive labels are ever cut, and no two series become one."""


class FamilyType(StrEnum):
    """A family's type, by OpenMetrics' words."""

    GAUGE = "gauge"
    COUNTER = "counter"
    INFO = "info"
    HISTOGRAM = "histogram"


_SUFFIX = {
    FamilyType.GAUGE: "",
    FamilyType.COUNTER: "_total",
    FamilyType.INFO: "_info",
    FamilyType.HISTOGRAM: "",
}
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
            self.lines[key] = lines.encode("utf-8", "replace")
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
