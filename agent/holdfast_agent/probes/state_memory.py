"""What was where in this boot: a path that leads elsewhere now has moved, and a mount it was on may be missing.

Within one boot nothing moves by itself: whoever moves a database's folder knows it, and who does not wants to. What the
fingerprint says (the filesystem's id and the folder's number in it) holds within a boot only, for XFS's id is that of its
device (`xfs_fs_statfs`). A first look at a path is no move.
"""

from msgspec import Struct

from holdfast_agent.probes.state_roles import below

TOLD_SECONDS = 3600.0
"""How long a move is told, after which the new place is the right one."""
_REMEMBERED_MAX = 2000


class Known(Struct, frozen=True):
    """One path at the newest look."""

    fingerprint: str
    mountpoint: str
    """The machine's mount right below it."""
    moved_from: str = ""
    """Where it was before it moved, in words."""
    home: str = ""
    """The fingerprint there."""
    moved_at: float = 0.0
    """Seconds since boot."""


class Notes(Struct, frozen=True):
    """The cursor's note."""

    boot_id: str = ""
    paths: dict[str, Known] = {}


class Memory:
    """Compares each path with what was known of it in this boot."""

    def __init__(self, notes: Notes, boot_id: str) -> None:
        self._boot_id = boot_id
        self._before = notes.paths if notes.boot_id == boot_id else {}
        self._now: dict[str, Known] = {}

    def moved_from(self, name: str, fingerprint: str, mountpoint: str, uptime: float) -> str:
        """Where the path was before it moved; empty when it did not, or is back there. Remembers where it is."""
        before = self._before.get(name)
        if before is None:
            self._now[name] = Known(fingerprint, mountpoint)
            return ""
        origin, home, since = before.moved_from, before.home, before.moved_at
        if fingerprint == home:
            origin, home, since = "", "", 0.0
        elif before.fingerprint != fingerprint:
            if not home:
                home = before.fingerprint
                origin = f"{home} on {before.mountpoint or 'an unknown mount'}"
            since = uptime
        elif uptime - since > TOLD_SECONDS:
            origin, home, since = "", "", 0.0
        # A mount that went missing stays the one to expect: it is what holds the data.
        expected = before.mountpoint if self._lost(before.mountpoint, mountpoint) else mountpoint
        self._now[name] = Known(fingerprint, expected, origin, home, since)
        return origin

    def expected(self, name: str) -> str:
        """The mount the path was on in this boot; empty when nobody knows."""
        before = self._before.get(name)
        return before.mountpoint if before else ""

    def keep(self, name: str) -> None:
        """Nothing could be seen now: what was known stays known."""
        if name in self._before:
            self._now[name] = self._before[name]

    @staticmethod
    def _lost(before: str, now: str) -> bool:
        """Also where nothing of the machine shows the path, for its mount may go while the service has it open."""
        return bool(before) and before != now and (not now or below(before, now))

    def notes(self) -> Notes:
        """What to remember: also of what is not there now, for a database may be stopped and started elsewhere."""
        gone = {name: known for name, known in self._before.items() if name not in self._now}
        return Notes(self._boot_id, dict([*self._now.items(), *gone.items()][:_REMEMBERED_MAX]))
