"""Every exception the rules raise on purpose.

RulesError
├── ExpressionInvalid   the mistakes of one expression, by place within it; `pack` places them in the file
└── PackError           the user is wrong: every mistake of every file at once; exit code 2
"""

from difflib import get_close_matches

from msgspec import Struct


class Mistake(Struct, frozen=True, kw_only=True):
    """One thing a user got wrong, where, and what would be right."""

    file: str
    line: int
    """From 1."""
    column: int
    """From 1."""
    rule: str = ""
    """The alert or test it belongs to, where that much could be read."""
    message: str
    nearest: str = ""
    """What was probably meant; empty when nothing is near."""

    def __str__(self) -> str:
        rule = f"{self.rule}: " if self.rule else ""
        nearest = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.file}:{self.line}:{self.column}: {rule}{self.message}{nearest}"


class Fault(Struct, frozen=True):
    """One mistake inside an expression or a template."""

    offset: int
    """Characters before it."""
    message: str
    nearest: str = ""


class RulesError(Exception):
    """The root of the tree above; never raised itself."""


class ExpressionInvalid(RulesError):
    """An expression cannot be used. `faults` are in the order of their place."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.faults = sorted(faults, key=lambda fault: fault.offset)


class PackError(RulesError):
    """Rule packs cannot be used. `mistakes` are all there are, by file and place."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = sorted(mistakes, key=lambda mistake: (mistake.file, mistake.line, mistake.column))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


def nearest(name: str, known: list[str]) -> str:
    """The known name most like `name`; empty when none is."""
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return near[0] if near else ""
