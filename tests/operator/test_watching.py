"""What `holdfast up` says of the machine it runs on."""

from typing import Any

from holdfast.watching import counted_alerts, findings


def test_what_is_missing_for_one_reason_is_told_on_one_line() -> None:
    """Twenty loop devices whose files lie on FUSE would push all else off the screen."""
    missing = {"loop0 backing": "on FUSE", "loop1 backing": "not readable", "loop2 backing": "on FUSE"}
    detail = {
        "node": {"node": "n1", "os_name": "Linux", "kernel": "6.1"},
        "resources": [],
        "capabilities": [
            {"name": "loop_backing.loop2 backing", "available": False, "reason": "on FUSE", "cost": ""}
        ],
        "sections": [{"probe": "loop_backing", "status": "ok", "detail": "", "missing": missing}],
    }

    assert list(findings(detail, "as root"))[2:] == [
        "cannot see loop_backing.loop0 backing and 1 more: on FUSE",
        "cannot see loop_backing.loop1 backing: not readable",
    ]


def test_what_is_explained_is_no_page_of_its_own() -> None:
    def alert(severity: str, cause: str = "") -> dict[str, Any]:
        return {"severity": severity, "inhibited_by": cause}

    firing = {"1": alert("page"), "2": alert("page", "VolumeDead"), "3": alert("ticket", "VolumeDead")}

    assert counted_alerts(firing) == "1 alert firing: 1 page; 2 more explained"
    assert counted_alerts({}) == "no alert fires"
