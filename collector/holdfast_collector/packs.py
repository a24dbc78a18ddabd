"""Finds rule packs: those we ship, and the operator's own. The only place that reads rule files.

Shipped packs are named `shipped/<file>` in messages; the operator's by their path. Tests (`*.test.yaml`) stand beside
the packs they test and are not rules.
"""

from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from holdfast_rules import NodeLabels, RuleSet, load
from holdfast_rules.errors import Mistake, PackError

USER_DIRECTORY = Path("/etc/holdfast/rules.d")
"""Where an operator's own packs are looked for unless the configuration says otherwise."""

_TEST = ".test.yaml"


def shipped_packs() -> dict[str, str]:
    """The packs inside the package: name → text."""
    return {name: text for name, text in _shipped().items() if not name.endswith(_TEST)}


def shipped_tests() -> dict[str, str]:
    """The tests of the shipped packs: name → text."""
    return {name: text for name, text in _shipped().items() if name.endswith(_TEST)}


def user_packs(paths: Iterable[Path]) -> dict[str, str]:
    """The packs of files and folders: path → text. Raises PackError for what cannot be read."""
    return _read(path for path in _files(paths) if not path.name.endswith(_TEST))


def user_tests(paths: Iterable[Path]) -> dict[str, str]:
    """The tests in files and folders, and those beside the files: path → text. Raises PackError."""
    return _read(_test_of(path) if not path.name.endswith(_TEST) else path for path in _files(paths))


def load_rules(
    directories: Iterable[Path] = (), *, shipped: bool = True, labels: Sequence[NodeLabels] = ()
) -> RuleSet:
    """The shipped rules with the operator's. A folder that does not exist holds none. Raises PackError."""
    own = user_packs(path for path in directories if path.exists())
    return load({**shipped_packs(), **own} if shipped else own).labelled(labels)


def _shipped() -> dict[str, str]:
    folder = resources.files("holdfast_rules") / "packs"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name
    )
    return {f"shipped/{file.name}": file.read_text(encoding="utf-8") for file in files}


def _files(paths: Iterable[Path]) -> list[Path]:
    """Each file once, folders opened, in the order of the arguments."""
    found: dict[Path, None] = {}
    for path in paths:
        for file in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
            found[file] = None
    return list(found)


def _test_of(pack: Path) -> Path:
    return pack.with_name(pack.name.removesuffix(".yaml") + _TEST)


def _read(files: Iterable[Path]) -> dict[str, str]:
    texts: dict[str, str] = {}
    mistakes = []
    for file in files:
        try:
            texts[str(file)] = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            if not file.name.endswith(_TEST):
                mistakes.append(_unreadable(file, "there is no such file"))
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(_unreadable(file, f"cannot be read: {error}"))
    if mistakes:
        raise PackError(mistakes)
    return texts


def _unreadable(file: Path, message: str) -> Mistake:
    return Mistake(file=str(file), line=1, column=1, message=message)
