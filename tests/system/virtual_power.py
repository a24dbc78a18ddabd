"""What only a machine's power can do, to the guest of `virtual_faults`: a cut, the reset button, sleep, a disk set back.

The two witnessed volumes promise records to the collector, then the power goes. `/srv/lying` had been told to drop its
writes: the witness must convict it, and it alone. The acts follow one another in one guest, in this order.
"""

import time
from collections.abc import Callable

from tests.system.virtual_fault_table import reload
from tests.system.virtual_guest import NODE, WITNESSED, Guest, Key
from tests.system.virtual_tally import Row, say

LYING, HONEST = WITNESSED
CUT, RESET, CUT_BACK, SET_BACK, SUSPENDED = ACTS = (
    "power cut: a disk that drops writes",
    "reset button",
    "power cut: a disk is set back",
    "shutdown: a disk is set back",
    "suspended to RAM",  # the last, for QEMU 7.2 cannot be switched off any more after it
)
SLEEP_SECONDS = 5.0
JUDGED_SECONDS = 900.0
"""A boot, the agent's start, and the second read that a conviction takes."""
OF_A_BOOT = frozenset(
    {
        *("UncleanBoot", "RebootLoop", "NodeSilent", "AgentStoppedWithoutNotice", "NodeStopped"),
        *("KernelLogGap", "VolumeNotWitnessed"),
    }
)
"""Alerts that a boot without a shutdown rightly raises of the node."""


class PowerTrial:
    """The acts, one after another."""

    def __init__(self, guest: Guest, acts: list[str]) -> None:
        self.guest = guest
        self._acts = acts

    def run(self) -> list[Row]:
        guest = self.guest
        told: dict[str, Callable[[], Row]] = {
            CUT: self._cut,
            RESET: self._reset,
            SUSPENDED: self._suspend,
            CUT_BACK: lambda: self._set_back(CUT_BACK, guest.machine.cut_power, "FlushNotHonoured"),
            SET_BACK: lambda: self._set_back(SET_BACK, guest.machine.shut_down, "VolumeRolledBack"),
        }
        return [told[act]() for act in self._acts]

    def _cut(self) -> Row:
        """Records that the disk confirmed and dropped are missed after the cut."""
        guest = self.guest
        guest.begin()
        guest.run(reload("lying", "$(disk lying)", "flakey", " 0 180 1 drop_writes"))
        # One is enough, and at the next the agent would find the first gone already: that is convicted as well,
        # without a cut.
        guest.wait_for_promises(1)
        # While its table is exchanged it is suspended: the half minute that this rule waits is a second here.
        suspended = ("DeviceSuspended", guest.run("mapped lying"))
        guest.machine.cut_power()
        return self._convicted(CUT, "FlushNotHonoured", LYING, HONEST, suspended)

    def _set_back(self, name: str, stop: Callable[[], None], alert: str) -> Row:
        """Between two stops a volume promises records; then its disk is what it was at the first.

        A cut explains a lost tail as well as a snapshot does, so it is named so; only after a clean stop is it a rollback.
        """
        guest = self.guest
        guest.begin()
        stop()
        guest.machine.save("honest")
        guest.machine.power_on()
        guest.settle()
        guest.wait_for_promises(3)
        stop()
        guest.machine.roll_back("honest")
        return self._convicted(name, alert, HONEST, LYING)

    def _suspend(self) -> Row:
        """The same boot goes on, on disks that may have been changed meanwhile: both are read back, and both are whole."""
        guest = self.guest
        row = Row(name=SUSPENDED, expected="both volumes read back and whole")
        guest.begin()
        guest.wait_for_promises(2)
        before = guest.read_back()
        guest.machine.suspend(SLEEP_SECONDS)
        began = time.monotonic()
        try:
            guest.wait(
                lambda: all(at > before[volume] for volume, at in guest.read_back().items()),
                JUDGED_SECONDS,
                "the volumes to be read back",
            )
        except AssertionError as error:
            say(f"time is up: {error}")
        else:
            row.named_seconds = time.monotonic() - began
            say(f"{row.named_seconds:4.0f} s  {SUSPENDED} → both volumes were read back")
        row.verdict = guest.verdict("volume", HONEST)
        for volume in WITNESSED:
            if accusations := guest.accusations(volume):
                row.false_alarms.append(f"{volume}: {accusations}")
        self._go_on(row, began, ())
        return row

    def _reset(self) -> Row:
        """Nothing that was promised is lost: the boot was a crash that all came through."""
        guest = self.guest
        row = Row(name=RESET, expected=f"UncleanBoot of {NODE}, all came back whole")
        guest.begin()
        guest.wait_for_promises(2)
        fates = guest.fate()[0]
        began = time.monotonic()
        guest.machine.reset()
        self._wait_fate(row, fates, began)
        if row.named_seconds is not None:
            said = guest.fate()[1]
            whole = said.startswith("crash") and "harmed" not in said
            if not (whole and guest.firing("UncleanBoot", NODE)):
                row.named_seconds = None
        row.verdict = guest.verdict("volume", HONEST)
        self._go_on(row, began, ())
        return row

    def _convicted(self, name: str, alert: str, accused: str, innocent: str, *also: Key) -> Row:
        """Switch on what was cut; who is accused, and whether an acknowledgement ends it."""
        guest = self.guest
        row = Row(name=name, expected=f"{alert} of {accused}")
        fates = guest.fate()[0]
        began = time.monotonic()
        guest.machine.power_on()
        try:
            guest.wait(lambda: guest.firing(alert, accused), JUDGED_SECONDS, f"{alert} of {accused}")
        except AssertionError:
            said = {volume: guest.accusations(volume) for volume in WITNESSED}
            say(f"time is up; said of the volumes: {said}")
        else:
            row.named_seconds = time.monotonic() - began
            row.verdict = guest.verdict("volume", accused)
            summary = guest.firing(alert, accused)[0]["annotations"]["summary"]
            say(f"{row.named_seconds:4.0f} s  {name} → {summary}")
        self._wait_fate(Row(name=name, expected=""), fates, began)
        if said_of_innocent := guest.accusations(innocent):
            row.false_alarms.append(f"{innocent}: {said_of_innocent}")
        self._go_on(row, time.monotonic(), [(alert, accused), *also])
        return row

    def _wait_fate(self, row: Row, before: int, began: float) -> None:
        """Until the collector has told what the boot was."""
        guest = self.guest
        try:
            guest.wait(lambda: guest.fate()[0] > before, JUDGED_SECONDS, "the fate of the boot")
        except AssertionError:
            say("time is up; the fate of the boot was not told")
            return
        row.named_seconds = time.monotonic() - began
        say(f"{row.named_seconds:4.0f} s  {row.name} → {guest.fate()[1]}")

    def _go_on(self, row: Row, began: float, rightly: list[Key] | tuple[()]) -> None:
        """What was said is acknowledged and goes; both volumes promise again."""
        guest = self.guest
        resources = {resource for _, resource in rightly}

        def gone() -> bool:
            guest.acknowledge(resources)
            return not any(guest.firing(*key) for key in rightly) and not any(
                map(guest.accusations, WITNESSED)
            )

        try:
            guest.wait(gone, JUDGED_SECONDS, "what was said to go")
            guest.wait_for_promises(2)
        except AssertionError as error:
            say(f"time is up: {error}")
        else:
            row.cleared_seconds = time.monotonic() - began
        of_the_boot = [(name, NODE) for name in OF_A_BOOT]
        of_the_boot += [("VolumeNotWitnessed", volume) for volume in (*WITNESSED, "/")]
        for key, summary in guest.strangers([*rightly, *of_the_boot]).items():
            row.false_alarms.append(f"{key[0]} of {key[1]}: {summary}")
