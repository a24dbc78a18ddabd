"""Every exception the collector raises on purpose.

    CollectorError
    ├── ConfigInvalid        the user is wrong: all mistakes at once; exit code 2
    ├── AlreadyRunning       another collector holds the data directory; exit code 2
    ├── ListenFailed         the HTTP address or certificate cannot be used; exit code 2
    ├── StoreNewer           the database was written by a newer release; exit code 2
    ├── StoreError           the database does not do what it must
    │   ├── StoreUnwritable  a commit failed and may succeed later: disk full, read-only, I/O error
    │   ├── StoreCorrupt     the file is damaged: the supervisor restarts us, and the next start sets it aside
    │   └── Fenced           another collector has taken over this partition: this one must stop
    └── SessionLost          the connection to the broker ended or never came to be, and why

Anything else that leaves the collector is ours, and the supervisor restarts us.
"""


class CollectorError(Exception):
    """The root of the tree above; never raised itself."""


class ConfigInvalid(CollectorError):
    """The configuration cannot be used. `mistakes` names every one, with its place and what would be right."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class AlreadyRunning(CollectorError):
    """Another collector works in the same data directory; two would overwrite each other's memory."""


class ListenFailed(CollectorError):
    """The HTTP server's address is taken or not ours, or its certificate is unusable; the message says which."""


class StoreNewer(CollectorError):
    """A newer release has changed the database's shape; this one would misread it."""


class StoreError(CollectorError):
    """The database does not do what it must. `reason` is for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StoreUnwritable(StoreError):
    """Nothing of the commit is in the database; the same commit may succeed later."""


class StoreCorrupt(StoreError):
    """SQLite found the file damaged."""


class Fenced(StoreError):
    """The partition has a newer owner. Nothing of the commit is in the database, and nothing ever will be."""


class SessionLost(CollectorError):
    """The session with the broker ended or never came to be. `reason` is for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
