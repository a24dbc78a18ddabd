"""Laws about the code, as functions from a module's source to its offences. `test_tidy.py` applies them.

Each law looks at one parsed module and answers with one line per offence, place first, so that a law can be tried on
a planted offence as well as on the repository.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[1]

MAY_IMPORT: dict[str, frozenset[str]] = {
    "holdfast_wire": frozenset(),
    "holdfast_agent": frozenset({"holdfast_wire"}),
    "holdfast_rules": frozenset({"holdfast_wire"}),
    "holdfast_collector": frozenset({"holdfast_wire", "holdfast_rules"}),
    "holdfast": frozenset({"holdfast_wire", "holdfast_rules", "holdfast_collector"}),
}
"""Our packages → which of the others each may know. Nobody knows the agent: it is deployed widest."""

FREE_LIBRARIES = frozenset({"msgspec", "structlog"})
"""Third-party libraries that may be imported anywhere the purity law lets them."""

PURE_STDLIB = frozenset(
    """__future__ abc array ast base64 bisect collections contextlib copy dataclasses datetime decimal difflib enum fractions
    functools hashlib heapq hmac html ipaddress itertools json keyword math numbers operator re statistics string struct
    textwrap tomllib types typing unicodedata warnings zlib""".split()  # noqa: SIM905 - forty quoted names are no easier to read
)
"""What the pure packages may import of the standard library: nothing in here touches the world.

A list of what is allowed, so that a module nobody thought of is refused. `datetime` is here for its arithmetic; its
`now`, `today` and `utcnow` are refused by name.
"""

PURE_THIRD_PARTY = frozenset({"msgspec", "yaml"})
"""YAML text → values; who reads the file is another question."""

IMPURE_CALLS = frozenset({"open", "print", "input", "breakpoint"})
IMPURE_ATTRIBUTES = frozenset({"now", "today", "utcnow", "environ", "getenv"})

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500

NAMELESS = frozenset({"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"})
"""Module names that hide the noun."""


class Module(Struct, frozen=True):
    """One source file."""

    path: str
    """From the root of the repository, with slashes."""
    source: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """Our top-level package, e.g. `holdfast_wire`; empty for tests."""
        parts = self.path.split("/")
        return parts[1] if parts[0] in {"agent", "collector", "rules"} else ""

    @property
    def name(self) -> str:
        """As it is imported."""
        dotted = self.path.removesuffix(".py").split("/")
        dotted = dotted[1:] if self.package else dotted
        return ".".join(dotted[:-1] if dotted[-1] == "__init__" else dotted)

    @property
    def pure(self) -> bool:
        """Whether the module lives where no clock, socket, file, randomness or logger may be known."""
        return self.package in {"holdfast_wire", "holdfast_rules"} or "/core/" in self.path


Law = Callable[[Module], list[str]]
"""One line per offence; none when the module obeys."""


def parse(path: str, source: str) -> Module:
    return Module(path, source, ast.parse(source, path))


def modules(*folders: str) -> list[Module]:
    """Every Python file below these folders of the repository."""
    found = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return [parse(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in found]


def imported(module: Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything the module imports, wherever in it the import stands."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.path}:{node.lineno}: relative import"
            assert node.module is not None
            yield node.lineno, node.module


def third_party(module: Module) -> set[str]:
    """The libraries that are neither the standard library nor ours nor free."""
    tops = {name.partition(".")[0] for _, name in imported(module)}
    return tops - sys.stdlib_module_names - MAY_IMPORT.keys() - FREE_LIBRARIES - {"tests"}


def forbidden_imports(module: Module) -> list[str]:
    """Imports against the direction wire ← agent, wire ← rules ← collector ← command."""
    allowed = MAY_IMPORT[module.package] | {module.package}
    return [
        f"{module.path}:{line}: {module.package} must not know {name}"
        for line, name in imported(module)
        if name.partition(".")[0] in MAY_IMPORT.keys() - allowed
    ]


def impurities(module: Module) -> list[str]:
    """What reaches for the world in a module that must not know it."""
    own = MAY_IMPORT.keys() | PURE_STDLIB | PURE_THIRD_PARTY
    found = [
        f"{module.path}:{line}: imports {name}"
        for line, name in imported(module)
        if name.partition(".")[0] not in own
    ]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            found.append(f"{module.path}:{node.lineno}: calls {node.func.id}")
        if isinstance(node, ast.Attribute) and node.attr in IMPURE_ATTRIBUTES and _of_a_module(node):
            found.append(f"{module.path}:{node.lineno}: asks for {ast.unparse(node)}")
    return found


def _of_a_module(node: ast.Attribute) -> bool:
    """`datetime.now`, `datetime.datetime.now`, not `event.now`."""
    return ast.unparse(node.value) in {"datetime", "datetime.datetime", "date", "datetime.date", "os"}


def long_functions(module: Module) -> list[str]:
    return [
        f"{module.path}:{node.lineno}: {node.name} has {length} lines"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]


def long_files(module: Module) -> list[str]:
    """Tables do not count: a list of forty patterns is one thought, forty functions are not."""
    tables = sum(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in module.tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
    )
    lines = module.source.count("\n") - tables
    return [f"{module.path}: {lines} lines"] if lines > FILE_LINES_MAX else []


def broad_excepts(module: Module) -> list[str]:
    """`except:`, `except Exception`, `except BaseException`, alone or in a tuple, unless it raises again."""
    found = []
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ExceptHandler) or _raises_again(node):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        names = {ast.unparse(one) if one is not None else "everything" for one in caught}
        if names & {"everything", "Exception", "BaseException"}:
            found.append(f"{module.path}:{node.lineno}: catches {', '.join(sorted(names))}")
    return found


def _raises_again(handler: ast.ExceptHandler) -> bool:
    """Whether the handler's last word is a bare `raise`: it tidies up and swallows nothing."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def comments(module: Module) -> Iterator[tuple[int, str]]:
    """(line, text) of every comment."""
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


_IGNORE = re.compile(r"#\s*(type:\s*ignore(?:\[[^\]]*\])?|noqa(?::\s*[A-Z0-9, ]+)?)(.*)")
_REASON = re.compile(r"\s*(?:#|--?|—|:)?\s*\S+\s+\S+")
"""At least two words."""


def unexplained_ignores(module: Module) -> list[str]:
    """`type: ignore` and `noqa` whose line does not say why."""
    return [
        f"{module.path}:{line}: {match[1]} without a reason"
        for line, text in comments(module)
        if (match := _IGNORE.search(text)) and not _REASON.match(match[2])
    ]


def sleeps(module: Module) -> list[str]:
    """Calls that let time pass. `asyncio.sleep(0)` only lets others run."""
    found = []
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        yields = bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
        if called.rpartition(".")[2] == "sleep" and not yields:
            found.append(f"{module.path}:{node.lineno}: {ast.unparse(node)}")
    return found


def _functions(module: Module) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    return {
        node.name: node
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def assertionless_tests(module: Module) -> list[str]:
    """Tests that cannot fail but by an exception: no assert, no `pytest.raises`, no call of something that asserts."""
    functions = _functions(module)
    asserting = {name for name, node in functions.items() if _asserts_itself(node)}
    while more := {
        name for name, node in functions.items() if name not in asserting and _calls(node) & asserting
    }:
        asserting |= more
    return [
        f"{module.path}:{node.lineno}: {name} asserts nothing"
        for name, node in functions.items()
        if name.startswith("test_") and name not in asserting
    ]


def _asserts_itself(node: ast.AST) -> bool:
    return any(
        isinstance(part, ast.Assert)
        or (
            isinstance(part, ast.Call)
            and ast.unparse(part.func).rpartition(".")[2].startswith(("raises", "warns", "fail", "assert_"))
        )
        for part in ast.walk(node)
    )


def _calls(node: ast.AST) -> set[str]:
    return {
        ast.unparse(part.func).rpartition(".")[2] for part in ast.walk(node) if isinstance(part, ast.Call)
    }


def undocumented(module: Module) -> list[str]:
    """A module with code and no sentence on what it is."""
    return [f"{module.path}: no docstring"] if module.tree.body and not ast.get_docstring(module.tree) else []


def nameless(module: Module) -> list[str]:
    stem = module.path.rpartition("/")[2].removesuffix(".py")
    return [f"{module.path}: the name hides the noun"] if set(stem.split("_")) & NAMELESS else []
