"""Pods' volumes: known by the kubelet's folders, on a recorded node and in a real container with such folders mounted into it."""

from typing import Any

import pytest

from holdfast_agent.probe import Observation, ProbeContext
from holdfast_agent.probes.container_raw import ContainerMount, ContainerRaw
from holdfast_agent.probes.container_state import found_in
from holdfast_agent.probes.expected_mounts import Findings, mount_findings
from holdfast_agent.probes.kubelet_volumes import pod_volume
from holdfast_agent.probes.mountinfo import parse_mountinfo
from holdfast_agent.probes.state_paths_linux import StatePaths
from holdfast_agent.probes.volume_choice import choose_volumes
from tests.agent.probes.recordings import recorded
from tests.rigs.loop_disk import LoopDisk, available
from tests.rigs.podman import Podman

POD = "0b5a3f8e-1c2d-4e5f-8a9b-0c1d2e3f4a5b"
KEPT = f"/var/lib/kubelet/pods/{POD}/volumes/kubernetes.io~"

Row = tuple[Any, ...]


def paths(observation: Observation, service: str) -> dict[str, Row]:
    """Path → role, confidence, container_volume, volatile, of one service."""
    names = ("role", "confidence", "container_volume", "volatile")
    return {
        str(each.facts["path"]): tuple(each.facts.get(name) for name in names)
        for each in observation.resources
        if each.kind == "state_path" and each.facts["service"] == service
    }


@pytest.mark.parametrize(
    ("place", "fstype", "kind"),
    [
        (f"{KEPT}empty-dir/scratch/sub", "ext4", "empty_dir"),
        (f"{KEPT}empty-dir/cache", "tmpfs", "empty_dir"),
        (f"/pods/{POD}/volumes/kubernetes.io~empty-dir/on-a-disk-of-its-own", "xfs", "empty_dir"),
        (
            f"/var/lib/rancher/k3s/agent/kubelet/pods/{POD}/volumes/kubernetes.io~csi/p/mount",
            "xfs",
            "persistent",
        ),
        (f"{KEPT}nfs/pv", "nfs4", "persistent"),
        (f"/pods/{'0f' * 16}/volumes/example.com~disk/static-pod", "ext4", "persistent"),
        (f"/var/lib/kubelet/plugins/kubernetes.io/csi/d/{'9' * 64}/globalmount", "ext4", "persistent"),
        (f"/var/lib/kubelet/pods/{POD}/volume-subpaths/pv/main/0", "ext4", "persistent"),
        (f"/var/lib/kubelet/pods/{POD}/volume-subpaths/settings/main/5", "tmpfs", "projected"),
        (f"{KEPT}csi/secrets-store/mount", "tmpfs", "projected"),
        (f"{KEPT}configmap/settings", "ext4", "projected"),
        (f"{KEPT}projected/kube-api-access-x", "tmpfs", "projected"),
        (f"/var/lib/kubelet/pods/{POD}/etc-hosts", "ext4", ""),
        ("/srv/pods/volumes/kubernetes.io~empty-dir/x", "ext4", ""),
        ("/var/lib/kubelet/config.yaml", "ext4", ""),
    ],
)
def test_a_pods_volume_is_known_by_its_folder(place: str, fstype: str, kind: str) -> None:
    """Wherever the kubelet's own folder is, and however it is mounted there."""
    assert pod_volume([place], fstype) == kind


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("cri-containerd-aaaaaaaaaaaa", {"/var/lib/postgresql/data": ("data", "high", "empty_dir", False)}),
        ("cri-containerd-bbbbbbbbbbbb", {"/var/lib/mysql": ("data", "high", "persistent", False)}),
        ("cri-containerd-cccccccccccc", {"/data": ("data", "high", "empty_dir", True)}),
        ("cri-containerd-dddddddddddd", {"/data/db": ("data", "high", "host_path", False)}),
        (
            "cri-containerd-eeeeeeeeeeee",
            {
                "/scratch": ("temp", "medium", "empty_dir", False),
                "/store": ("data", "medium", "persistent", False),
                "/host/log": ("log", "low", "host_path", False),
            },
        ),
        ("crio-ffffffffffff", {"/exports": ("data", "medium", "persistent", False)}),
    ],
)
def test_a_nodes_pods_keep_what_they_keep_in_their_volumes(service: str, expected: dict[str, Row]) -> None:
    """Of a program that nobody knows, a persistent volume is state, an emptyDir scratch; what the kubelet writes is neither."""
    observation = StatePaths(ProbeContext(node="n", boot_id="b")).interpret(
        recorded(StatePaths, "kubernetes-node")
    )

    assert paths(observation, service) == expected


def test_a_volume_of_a_driver_ends_on_its_own_disk() -> None:
    """The container has a sub-path of it, the machine has it twice: for all pods, and for this one."""
    observation = StatePaths(ProbeContext(node="n", boot_id="b")).interpret(
        recorded(StatePaths, "kubernetes-node")
    )

    [facts] = [
        each.facts
        for each in observation.resources
        if each.name == "cri-containerd-bbbbbbbbbbbb:/var/lib/mysql"
    ]
    assert (facts["device"], facts["fstype"]) == ("nvme1n1", "ext4")
    assert str(facts["mountpoint"]).endswith("/kubernetes.io~csi/pvc-1/mount")


def test_to_docker_a_pods_volume_is_a_folder_of_the_machine() -> None:
    """With Docker as the runtime (cri-dockerd) its word for all of them is `bind`."""
    mounts = tuple(
        ContainerMount(kind="bind", source=f"{KEPT}{which}", destination=f"/{which.partition('/')[2]}")
        for which in ("csi/pvc/mount", "empty-dir/scratch", "configmap/settings")
    )
    container = ContainerRaw(
        id="0f" * 32, runtime="docker", name="k8s_app", image="somebody/app", mounts=mounts
    )

    assert [(each.path, each.role, each.confidence) for each in found_in(container)] == [
        ("/pvc/mount", "data", "medium"),
        ("/scratch", "temp", "medium"),
    ]


def test_a_pods_volume_is_no_mount_that_somebody_forgot_to_configure() -> None:
    """The kubelet mounts it where the pod runs next; in fstab it would be wrong."""
    mountinfo = (
        "28 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"40 28 8:16 / {KEPT}csi/pvc/mount rw - ext4 /dev/sdb rw\n"
        "41 28 8:32 / /by-hand rw - ext4 /dev/sdc rw\n"
    )
    mounts = parse_mountinfo(mountinfo)

    found = mount_findings([], choose_volumes(mounts, mounts), mountinfo, Findings({}, {}, {}, {}, {}))

    assert {place: facts.get("mount_configured") for place, facts in found.items()} == {
        "/": True,
        f"{KEPT}csi/pvc/mount": None,
        "/by-hand": False,
    }


@pytest.mark.system
def test_a_real_containers_mounts_of_such_folders_are_told_apart() -> None:
    """The folders are laid out as the kubelet does; the container, its mounts and a disk of its own are real."""
    available("ext4")
    with Podman(driver="overlay") as podman:
        kept = podman.rootfs / "kubelet" / "pods" / POD / "volumes"
        claimed, scratch = kept / "kubernetes.io~csi" / "pvc", kept / "kubernetes.io~empty-dir" / "scratch"
        settings, machine = kept / "kubernetes.io~configmap" / "settings", podman.rootfs / "srv"
        for folder in (claimed, scratch, settings, machine):
            folder.mkdir(parents=True)
        with LoopDisk(claimed, "ext4") as disk:
            volumes = {
                disk.mountpoint: "/store",
                scratch: "/scratch",
                settings: "/settings:ro",
                machine: "/machine",
            }
            options = [f"--volume={source}:{place}" for source, place in volumes.items()]
            with podman.running("app", "true", *options, runtime="cri-containerd") as identity:
                probe = StatePaths(ProbeContext(node="n", boot_id="b", rootfs=podman.rootfs / "nowhere"))

                observation = probe.interpret(probe.read())

            service = f"cri-containerd-{identity[:12]}"
            [store] = [each.facts for each in observation.resources if each.name == f"{service}:/store"]
            assert (store["device"], store["mountpoint"]) == (disk.name, str(disk.mountpoint))
    assert paths(observation, service) == {
        "/store": ("data", "medium", "persistent", False),
        "/scratch": ("temp", "medium", "empty_dir", False),
        "/machine": ("temp", "low", "host_path", False),  # by its place on the machine, which is below /tmp
    }
