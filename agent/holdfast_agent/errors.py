"""Every exception the agent raises on purpose.

    AgentError
    ├── ConfigInvalid        the user is wrong: all mistakes at once; exit code 2
    ├── ProbeStop            a probe cannot give facts, and knows why; becomes the section's status
    │   ├── Unsupported      this machine cannot have these facts
    │   ├── Denied           the facts exist, the agent may not read them
    │   └── NoData           the probe works, there is nothing of its kind here
    ├── EventRefused         a probe reports what no collector would take; becomes the watch's failure
    ├── LinkDown             the connection to the broker ended, and why
    └── AlreadyRunning       another agent holds the state folder

Anything else that leaves a probe is the probe's fault and becomes the status `error`; anything else that leaves the
agent is ours, and the supervisor restarts us.
"""


class AgentError(Exception):
    """The root of the tree above; never raised itself."""


class ConfigInvalid(AgentError):
    """The configuration cannot be used. `mistakes` names every one, with its place and what would be right."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class ProbeStop(AgentError):
    """A probe ends without facts. The reason is for a person: what is missing, and how to grant it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unsupported(ProbeStop):
    """This machine cannot have these facts: no systemd, no such kernel interface."""


class Denied(ProbeStop):
    """The facts exist and the agent may not read them; the reason says how to allow it."""


class NoData(ProbeStop):
    """The probe works, and there is nothing of its kind on this machine."""


class EventRefused(AgentError):
    """An event that no collector would take, and why. The probe's fault."""


class LinkDown(AgentError):
    """The connection to the broker ended or never came to be. `reason` is for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AlreadyRunning(AgentError):
    """Another agent works in the same state folder; two would share one identity."""
