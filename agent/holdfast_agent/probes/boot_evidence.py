"""How the machine's previous run ended: what is left of it, and what that shows (durability catalogue B-02).

No single trace decides. That the agent stopped cleanly does not show that the machine did: somebody may have stopped
the agent, hours before the power went. So each trace is gathered with its own words:

| trace                                                    | shows                                              |
|----------------------------------------------------------|----------------------------------------------------|
| the kernel or fsck replayed a journal while booting      | dirty: a filesystem was not unmounted              |
| journald found its files not closed                      | dirty                                              |
| a kernel crash in pstore or dumped by kdump, as old as the boot | dirty                                       |
| the previous boot's journal reached shutdown.target      | clean, unless one of the above                     |
| wtmp has a shutdown before this boot                     | clean, unless one of the above                     |
| wtmp has the boot before, and no shutdown after it       | dirty, unless the journal shows an orderly shutdown|

An orderly shutdown that was begun and did not end leaves both kinds; then it was dirty. With no trace nothing is known.
"""

from msgspec import Struct, field

from holdfast_agent.probes.wtmp import WtmpRecord

BOOTING_SECONDS = 300.0
"""A journal replayed later is of a disk that was attached later, and says nothing of how this machine went down."""
_CLOCK_SLACK_SECONDS = 600.0
"""How far the clock of early boot may be from the one that the boot time is reckoned by."""
_CRASH_BEFORE_SECONDS = 3600.0
"""How long a machine may take from a panic to the next boot."""


class BootEvidence(Struct, frozen=True, kw_only=True):
    """The traces of the previous run, as they are found."""

    booted_at: float
    replayed: list[str] = field(default_factory=list)
    """The kernel's lines, and fsck's, that a journal was replayed while booting."""
    journal_unclean: list[str] = field(default_factory=list)
    """journald's lines about files that were not closed."""
    journal_shutdown: str = ""
    """The previous boot's line that shutdown.target was reached."""
    wtmp: list[WtmpRecord] = field(default_factory=list)
    crashes: list[float] = field(default_factory=list)
    """When the kernel crashes that pstore and kdump keep were written, Unix time."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Source → why it could not be read."""


class BootVerdict(Struct, frozen=True, kw_only=True):
    """How the previous run ended."""

    dirty: bool | None
    """None: nothing shows it."""
    evidence: str
    """What shows it, or why nothing does."""


def judge(evidence: BootEvidence) -> BootVerdict:
    """What the traces show together."""
    dirty = [
        *evidence.replayed[:3],
        *evidence.journal_unclean[:1],
        *(["a kernel crash is kept in pstore or /var/crash"] if _crashed(evidence) else []),
    ]
    shut_down = _wtmp_shutdown(evidence)
    clean = [
        *(
            ["the previous boot's journal has it: " + evidence.journal_shutdown]
            if evidence.journal_shutdown
            else []
        ),
        *(["wtmp has a shutdown before this boot"] if shut_down else []),
    ]
    if dirty and clean:
        return BootVerdict(dirty=True, evidence="; ".join([*dirty, "although a shutdown had begun"]))
    if dirty:
        return BootVerdict(dirty=True, evidence="; ".join(dirty))
    if clean:
        return BootVerdict(dirty=False, evidence="; ".join(clean))
    if shut_down is False:
        return BootVerdict(
            dirty=True, evidence="wtmp has the boot before this one and no shutdown between them"
        )
    why = [f"{source}: {reason}" for source, reason in sorted(evidence.unreadable.items())]
    return BootVerdict(dirty=None, evidence="; ".join(["nothing shows how the previous run ended", *why]))


def _crashed(evidence: BootEvidence) -> bool:
    earliest, latest = evidence.booted_at - _CRASH_BEFORE_SECONDS, evidence.booted_at + _CLOCK_SLACK_SECONDS
    return any(earliest <= at <= latest for at in evidence.crashes)


def _wtmp_shutdown(evidence: BootEvidence) -> bool | None:
    """Whether the machine was shut down before it booted; None when wtmp does not go back that far, or stopped long ago.

    By the order of the records: the clock that stamped them may have been wrong.
    """
    boots = [place for place, record in enumerate(evidence.wtmp) if record.kind == "boot"]
    if not boots or evidence.wtmp[boots[-1]].at < evidence.booted_at - _CLOCK_SLACK_SECONDS:
        return None
    before = evidence.wtmp[: boots[-1]]
    if not before:
        return None
    return before[-1].kind == "shutdown"
