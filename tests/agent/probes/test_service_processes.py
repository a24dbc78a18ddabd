"""Which service a process belongs to, by control groups as systemd and container runtimes name them."""

import pytest

from holdfast_agent.probes.process_table import Process
from holdfast_agent.probes.service_processes import groups, service_of

ID = "0123456789ab" + "c" * 52


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        ("0::/system.slice/system-postgresql.slice/postgresql@15-main.service", ("postgresql@15-main.service", True)),
        ("0::/system.slice/a.service/sub/group", ("a.service", True)),
        ("12:cpu:/\n1:name=systemd:/system.slice/a.service\n0::/", ("a.service", True)),
        (f"0::/system.slice/docker-{ID}.scope", ("docker-0123456789ab", False)),
        (f"0::/system.slice/docker-{ID}.scope/init.scope", ("docker-0123456789ab", False)),
        (f"5:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}", ("docker-0123456789ab", False)),
        (f"0::/machine.slice/libpod-{ID}.scope/container", ("libpod-0123456789ab", False)),
        (f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", ("cri-containerd-0123456789ab", False)),
        (f"0::/system.slice/quadlet.service/libpod-{ID}.scope", ("libpod-0123456789ab", False)),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service", ("", False)),
        ("0::/user.slice/user-0.slice/session-3.scope", ("", False)),
        ("0::/system.slice/systemd-journald.service", ("", False)),
        ("0::/init.scope", ("", False)),
        ("", ("", False)),
        ("nonsense", ("", False)),
    ],
)  # fmt: skip
def test_a_control_group_names_a_unit_a_container_or_nothing(cgroup: str, expected: tuple[str, bool]) -> None:
    assert service_of(cgroup) == expected


def process(pid: int, parent: int, *arguments: str) -> Process:
    return Process(pid=pid, parent=parent, arguments=arguments)


def test_a_database_outside_of_every_service_is_one_with_its_children() -> None:
    """Started by hand, or where there is no systemd; a shell beside it is nobody's business."""
    running = [
        process(10, 1, "postgres", "-D", "/pg"),
        process(11, 10, "postgres: checkpointer"),
        process(12, 1, "/bin/sh"),
        process(13, 1, "nginx"),
        process(14, 13, "nginx: worker"),
    ]
    in_unit = "0::/system.slice/nginx.service"

    found = groups(running, {13: in_unit, 14: in_unit})

    assert [(group.name, [each.pid for each in group.processes]) for group in found] == [
        ("nginx.service", [13, 14]),
        ("", [10, 11]),
    ]
    assert [each.pid for each in found[1].engines] == [10]


def test_a_service_that_systemd_is_about_to_start_does_not_run_yet() -> None:
    """Taken for running it would keep nothing, and where its state was would be forgotten at that moment."""
    as_forked = process(10, 1, "(s-server)", "", "", "")
    beside = [process(11, 1, "(sd-pam)"), process(12, 1, "sshd: worker")]
    cgroups = {
        10: "0::/system.slice/redis.service",
        11: "0::/system.slice/b.service",
        12: "0::/system.slice/b.service",
    }

    found = groups([as_forked, *beside], cgroups)

    assert [(group.name, [each.pid for each in group.processes]) for group in found] == [("b.service", [12])]
