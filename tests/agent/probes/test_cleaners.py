"""What empties a place: tmpfiles.d as distributions ship it, memory, and systemd when a unit stops."""

import pytest

from holdfast_agent.probes.cleaners import cleaned_by, cleaners

DEBIAN = [
    "# comment",
    "D /tmp 1777 root root -",
    "q /var/tmp 1777 root root 30d",
    "x /tmp/systemd-private-%b-*",
    "x /var/tmp/keep",
    "d /var/lib/app 0750 app app -",
    "d /var/cache/man 0755 root root 1w",
    "R! /srv/scratch/*",
    "e /var/spool/*/old - - - ~12h",
    "z /etc/thing 0600",
    "f",
]


@pytest.mark.parametrize(
    ("path", "how"),
    [
        ("/tmp/kafka-logs", "systemd-tmpfiles empties /tmp at boot"),
        ("/var/tmp/db", "systemd-tmpfiles removes from /var/tmp what is older than 30d"),
        ("/var/tmp/keep/db", ""),
        ("/var/lib/app", ""),
        ("/var/cache/man/x", "systemd-tmpfiles removes from /var/cache/man what is older than 1w"),
        ("/srv/scratch/a/b", "systemd-tmpfiles empties /srv/scratch/* at boot"),
        ("/var/spool/mail/old/x", "systemd-tmpfiles removes from /var/spool/*/old what is older than 12h"),
        ("/run/app", "/run is memory, and empty after every boot"),
        ("/var/lib/docker/tmp/x", "/var/lib/docker/tmp is emptied by Docker when it starts"),
        ("/tmp/systemd-private-0f-a.service-XyZ/tmp/d", "systemd removes the private /tmp of a.service when the unit stops"),
        ("/srv/db", ""),
        ("/tmpfiles", ""),
    ],
)  # fmt: skip
def test_a_place_says_what_empties_it(path: str, how: str) -> None:
    assert cleaned_by(path, cleaners(DEBIAN)) == how


def test_tmp_is_suspect_where_nothing_is_known_of_cleaners() -> None:
    assert cleaned_by("/tmp/x", cleaners([])) == "/tmp is emptied at boot on many machines"
