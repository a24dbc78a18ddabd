"""What a known engine is: how its process is recognised, and how its paths are found without asking it.

An engine's own answer (SQL, HTTP) would be better still, but needs a login; its configuration is there also while it
starts, fails, or is too busy to answer. Every path says by which means it was found.
"""

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct, field

from holdfast_agent.probes.state_roles import Confidence, Role

CONFIGURATION = "engine configuration"
COMMAND_LINE = "command line"
ENVIRONMENT = "environment"
WORKING_DIRECTORY = "working directory"
DEFAULT = "engine default"


class Found(Struct, frozen=True, kw_only=True):
    """One path that a service keeps something in."""

    path: str
    role: Role
    source: str
    confidence: Confidence = "high"
    required_class: int | None = None
    """What the operator wants; None: what the role needs."""
    until: str = ""
    """The last day (UTC, `2027-01-31`) on which the operator's word on the class holds; empty: for good."""


class Running(Struct, frozen=True, kw_only=True):
    """A process as an engine's file sees it."""

    arguments: tuple[str, ...]
    """The command line as it is now; some engines overwrite it with a title."""
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""
    """Its working directory; empty when it could not be read."""
    started_as: tuple[str, ...] = ()
    """The command line by which the service manager started it; empty when nobody knows."""
    home: str = ""

    @property
    def program(self) -> str:
        """The last part of the program's name."""
        return posixpath.basename(self.arguments[0]) if self.arguments else ""

    def absolute(self, path: str) -> str:
        """Relative to the working directory; as it is where that is unknown."""
        return posixpath.normpath(posixpath.join(self.directory or "/", path))


class Files(Protocol):
    """Files as the process sees them. None: not there, or not to be read, which `unreadable` of the caller tells."""

    def text(self, path: str) -> str | None: ...
    def names(self, path: str) -> list[str] | None: ...
    def link(self, path: str) -> str | None: ...


class Discovery(Struct, frozen=True, kw_only=True):
    """What an engine's file makes of a process."""

    paths: tuple[Found, ...] = ()
    missing: tuple[str, ...] = ()
    """What could not be read, and what therefore stays unknown."""
    syncs_disabled_by: str = ""
    """The option that makes it skip fsync; empty when there is none."""


class Engine(Struct, frozen=True, kw_only=True):
    """One engine."""

    name: str
    runs: Callable[[Running], bool]
    """Whether the process is the engine's main one."""
    find: Callable[[Running, Files], Discovery]
    disposable: re.Pattern[str] = re.compile(r"(?!)")
    """Files it deletes while they are open, as its way of work: they are no loss."""


def unquoted(text: str) -> str:
    """Without blanks and one pair of quotes around it."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
