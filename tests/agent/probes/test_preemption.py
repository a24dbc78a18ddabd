"""Whether a cloud may take the machine back: what it says of itself, what Azure says, what the operator says."""

from pathlib import Path
from typing import Literal

import pytest

from holdfast_agent.probe import NoData, ProbeContext
from holdfast_agent.probes.media_raw import PlatformRaw
from holdfast_agent.probes.medium_cloud import AZURE_ASSET_TAG
from holdfast_agent.probes.preemption_linux import (
    AzureCompute,
    Preemption,
    PreemptionRaw,
    PreemptionSettings,
)
from holdfast_wire.message import Value
from tests.agent.probes.recordings import recorded
from tests.agent.probes.test_azure_storage import serving

COMPUTE = b"""{"azEnvironment": "AZUREPUBLICCLOUD", "evictionPolicy": "Delete", "location": "westeurope",
 "name": "batch-3", "osType": "Linux", "priority": "Low", "storageProfile": {"osDisk": {"name": "o"}}}"""
"""The shape of Azure's own example (instance-metadata-service.md)."""
OUR_WORD = "declare probes.preemption.preemptible"


def probe(declared: Literal["auto", "yes", "no"] = "auto") -> Preemption:
    return Preemption(ProbeContext(node="n", settings=PreemptionSettings(preemptible=declared)))


def seen(raw: PreemptionRaw, declared: Literal["auto", "yes", "no"] = "auto") -> dict[str, Value]:
    observation = probe(declared).interpret(raw)
    facts = [resource.facts for resource in observation.resources]
    return facts[0] if facts else {"missing": observation.missing["preemptible"]}


@pytest.mark.parametrize(
    ("machine", "preemptible", "reason"),
    [
        (
            "azure-spot",
            True,
            "a VM of Azure with Spot priority, which is stopped, without its temporary disk when taken back",
        ),
        ("azure-regular", False, "a VM of Azure with regular priority"),
        ("bare-metal", False, "a machine without a hypervisor"),
    ],
)
def test_a_machine_that_shows_how_it_was_bought_says_so(machine: str, preemptible: bool, reason: str) -> None:
    assert seen(recorded(Preemption, machine)) == {
        "preemptible": preemptible,
        "preemptible_reason": reason,
        "preemptible_declared": False,
    }


@pytest.mark.parametrize(
    ("machine", "why"),
    [("azure-blocked", "timed out"), ("ec2-nitro", "only Amazon's metadata service tells")],
)
def test_where_nobody_can_be_asked_it_is_unknown_with_the_way_out(machine: str, why: str) -> None:
    """No data is never health: most Spot machines would look like ordinary ones."""
    missing = str(seen(recorded(Preemption, machine))["missing"])

    assert why in missing
    assert OUR_WORD in missing


def test_an_answer_without_a_priority_is_none() -> None:
    """An older answer knows no such key, and an empty value is Azure's word for a VM without one."""
    raw = recorded(Preemption, "azure-regular")
    older = PreemptionRaw(platform=raw.platform, azure=AzureCompute())

    assert "does not say" in str(seen(older)["missing"])


@pytest.mark.parametrize("machine", ["azure-spot", "azure-blocked", "ec2-nitro", "bare-metal"])
@pytest.mark.parametrize(("word", "preemptible"), [("yes", True), ("no", False)])
def test_the_operators_word_wins_everywhere_and_is_shown_as_such(
    machine: str, word: Literal["yes", "no"], preemptible: bool
) -> None:
    assert seen(recorded(Preemption, machine), word) == {
        "preemptible": preemptible,
        "preemptible_reason": f"declared in the agent's configuration (preemptible = {word})",
        "preemptible_declared": True,
    }


def test_a_virtual_machine_of_nobody_known_has_nothing_to_say() -> None:
    """Most machines are never taken back, and need no line that says so again and again."""
    with pytest.raises(NoData, match=OUR_WORD):
        probe().interpret(PreemptionRaw(platform=PlatformRaw(vendor="QEMU", hypervisor=True)))


@pytest.fixture
def azure(tmp_path: Path) -> Path:
    folder = tmp_path / "class" / "dmi" / "id"
    folder.mkdir(parents=True)
    (folder / "chassis_asset_tag").write_text(AZURE_ASSET_TAG + "\n")
    return tmp_path


def test_azure_is_asked_once_an_hour_and_what_it_said_stands_while_it_is_silent(azure: Path) -> None:
    now = [0.0]
    heard = []
    with serving("/metadata/instance/compute?api-version=") as service:
        service.answer = COMPUTE
        asking = Preemption(ProbeContext(node="n", sysfs=azure, boot_clock=lambda: now[0]))
        asking.azure_metadata = service.address
        for now[0], service.status in ((0.0, 503), (300.0, 200), (600.0, 200), (3900.0, 429), (4200.0, 200)):
            raw = asking.read()
            heard.append((service.asked, raw.azure and raw.azure.priority, bool(raw.azure_unreadable)))

    assert heard == [
        (1, None, True),
        (2, "Low", False),
        (2, "Low", False),
        (3, "Low", True),
        (4, "Low", False),
    ]
    assert "deleted when taken back" in str(seen(raw)["preemptible_reason"])


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b'{"priority": 3}', b"\xff"])
def test_another_answer_is_no_answer(azure: Path, answer: bytes) -> None:
    with serving("/metadata/instance/compute?api-version=") as service:
        service.answer = answer
        asking = Preemption(ProbeContext(node="n", sysfs=azure))
        asking.azure_metadata = service.address

        raw = asking.read()

    assert (raw.azure, raw.azure_unreadable[:51]) == (
        None,
        "the instance metadata service answers something els",
    )


def test_nobody_is_asked_elsewhere_or_where_it_is_declared(azure: Path, tmp_path: Path) -> None:
    with serving() as service:
        yes, auto = PreemptionSettings(preemptible="yes"), PreemptionSettings()
        for settings, sysfs in ((yes, azure), (auto, tmp_path / "elsewhere")):
            asking = Preemption(ProbeContext(node="n", sysfs=sysfs, settings=settings))
            asking.azure_metadata = service.address
            asking.read()

    assert service.asked == 0
