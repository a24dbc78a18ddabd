"""One lost mount is one fact, with all that is missed on it."""

from typing import Any

import pytest

from holdfast_agent.probes.missing_volumes import missing_volumes
from holdfast_wire import Resource


def path(name: str, **facts: Any) -> Resource:
    said = {"service": "db.service", "role": "data", "required_class": 2, "confidence": "high", **facts}
    return Resource(kind="state_path", name=name, facts=said)


def said(*stated: Resource) -> dict[str, dict[str, Any]]:
    return {resource.name: resource.facts for resource in missing_volumes(stated)}


def test_all_that_is_missed_on_a_mount_is_said_once() -> None:
    """And a volume that is there is said to be there: without that word nothing would clear when a mount is back."""
    found = said(
        path("db:/srv/db", missing_mountpoint="/srv", mountpoint="/"),
        path("db:/srv/db/wal", role="wal", missing_mountpoint="/srv", mountpoint="/"),
        path("db:/srv/db/more", missing_mountpoint="/srv", mountpoint="/"),
        path("cache:/srv/c", service="cache.service", missing_mountpoint="/srv", mountpoint="/"),
        path("mail:/var/mail", service="mail.service", mountpoint="/var"),
        Resource(kind="service", name="db.service", facts={"required_class": 2, "mountpoint": "/no"}),
    )

    assert found == {
        "/var": {"missing_under_state": False},
        "/srv": {
            "missing_under_state": True,
            "missing_for": "cache.service (data), db.service (data, wal)",
        },
    }


@pytest.mark.parametrize("facts", [{"required_class": 1}, {"required_class": None}, {"confidence": "low"}])
def test_what_need_not_last_or_is_a_guess_misses_nothing(facts: dict[str, Any]) -> None:
    assert said(path("a", missing_mountpoint="/srv", **facts), path("b", mountpoint="/var", **facts)) == {}


def test_what_some_still_reach_is_missing_for_those_that_do_not() -> None:
    """A service with mounts of its own may see what the machine has lost."""
    found = said(path("a", missing_mountpoint="/srv"), path("b", mountpoint="/srv"))

    assert found == {"/srv": {"missing_under_state": True, "missing_for": "db.service (data)"}}
