"""Services in a systemd of the bench's own whose main processes can be killed from outside, at a known instant."""

from pathlib import Path

from tests.rigs.systemd_box import SystemdBox

_UNIT = """[Unit]
Description=A service of the bench
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""


class BoxedServices:
    """`bench@0.service` and so on: enabled, running, and not started again when they die."""

    def __init__(self, box: SystemdBox, count: int) -> None:
        self._box = box
        self.names = [f"bench@{number}.service" for number in range(count)]
        box.unit("bench@.service", _UNIT)
        box.run("systemctl", "enable", "--now", *self.names)

    def watched_by(self, command: list[str]) -> list[str]:
        """The command, run where this systemd seems to be the machine's own; everything else is as outside.

        In a mount namespace of its own /run holds the sign that systemd runs (sd_booted(3)) and the way to the box's
        bus. Network, disks and process ids stay the machine's: a spool's fsync reaches a real disk.
        """
        script = (
            'mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && ln -s "$0" /run/dbus && exec "$@"'
        )
        bus = str(self._box.root / "run" / "dbus")
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, bus, *command]

    def pids(self) -> dict[str, int]:
        """Service → its main process, as this machine counts processes."""
        inner = self._box.run("systemctl", "show", "--property=MainPID", "--value", *self.names).split()
        outer = _outer_pids(self._box.pid)
        return {name: outer[int(pid)] for name, pid in zip(self.names, inner, strict=True)}


def _outer_pids(first: int) -> dict[int, int]:
    """Process id inside the namespace whose first process is `first` → outside (`NSpid`, proc_pid_status(5))."""
    namespace = Path(f"/proc/{first}/ns/pid").readlink()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "ns" / "pid").readlink() != namespace:
                continue
            status = (entry / "status").read_text()
        except OSError:
            continue  # ended meanwhile
        numbers = status.partition("NSpid:")[2].partition("\n")[0].split()
        found[int(numbers[-1])] = int(entry.name)
    return found
