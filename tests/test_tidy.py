"""The laws of the repository. Each is tried on a planted offence too: a law that cannot be broken holds nothing up."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from itertools import chain

import pytest

from tests import tidy
from tests.tidy import Module, parse

PRODUCT = tidy.modules("agent", "collector", "rules")
TESTS = tidy.modules("tests")
PATHS = [module.path for module in PRODUCT]

SUPERVISION = {
    "agent/holdfast_agent/background.py": "a thread's failure belongs to whoever awaits its result",
    "agent/holdfast_agent/runner.py": "a probe may fail in any way, and must not take the agent along",
    "agent/holdfast_agent/app.py": "the outermost frame: says what happened before the process ends",
    "collector/holdfast_collector/engine.py": "one node's bytes must not blind us to all others",
    "collector/holdfast_collector/app.py": "the outermost frame: says what happened before the process ends",
}
"""The only files that may catch everything, and why."""

WAITING = "tests/waiting.py"
"""The one place of the tests where time passes. Benches pace a load, which is another thing."""


def offences(law: tidy.Law, modules: list[Module]) -> list[str]:
    return [offence for module in modules for offence in law(module)]


def test_imports_go_one_way() -> None:
    assert offences(tidy.forbidden_imports, PRODUCT) == []


def test_pure_packages_reach_for_nothing() -> None:
    pure = [module for module in PRODUCT if module.pure]

    assert {module.package for module in pure} >= {"holdfast_wire", "holdfast_collector"}
    assert offences(tidy.impurities, pure) == []


def test_each_library_of_the_outside_world_is_known_to_one_file() -> None:
    """The day a library must be replaced, one file changes."""
    importers = defaultdict(list)
    for module in PRODUCT:
        for library in tidy.third_party(module):
            importers[library].append(module.path)

    assert {library: paths for library, paths in importers.items() if len(paths) != 1} == {}


def test_functions_and_files_stay_readable() -> None:
    assert offences(tidy.long_functions, PRODUCT) + offences(tidy.long_files, PRODUCT) == []


def test_everything_is_caught_at_the_supervision_points_only() -> None:
    elsewhere = [module for module in PRODUCT if module.path not in SUPERVISION]

    assert offences(tidy.broad_excepts, elsewhere) == []


def test_supervision_points_exist() -> None:
    assert [path for path in SUPERVISION if path not in PATHS] == []


def test_every_ignore_says_why() -> None:
    assert offences(tidy.unexplained_ignores, PRODUCT + TESTS) == []


def test_tests_wait_for_conditions_not_for_time() -> None:
    tests = [
        module for module in TESTS if module.path != WAITING and not module.path.startswith("tests/bench/")
    ]

    assert offences(tidy.sleeps, tests) == []


def test_every_test_can_fail() -> None:
    assert offences(tidy.assertionless_tests, TESTS) == []


def test_every_module_says_what_it_is() -> None:
    assert offences(tidy.undocumented, PRODUCT + TESTS) == []


def test_module_names_say_the_noun() -> None:
    assert offences(tidy.nameless, PRODUCT + TESTS) == []


def test_nothing_is_left_for_later() -> None:
    word = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=tidy.ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    texts = [
        tidy.ROOT / name
        for name in files
        if name.endswith((".py", ".md", ".toml", ".yaml", ".sh", ".service"))
    ]
    texts = texts or [tidy.ROOT / module.path for module in PRODUCT + TESTS]
    left = [str(path) for path in texts if path.exists() and word.search(path.read_text(encoding="utf-8"))]

    assert left == []


@pytest.mark.parametrize("folder", ["agent", "collector", "rules", "systemd", "tests"])
def test_folder_explains_itself(folder: str) -> None:
    readme = tidy.ROOT / folder / "README.md"

    assert readme.exists(), "a newcomer opens the folder and finds nothing to begin with"
    assert readme.read_text(encoding="utf-8").startswith("# ")


def test_ci_installs_what_tests_ask_for() -> None:
    """There a missing tool is a failure. What only benches compare with is not asked for."""
    script = (tidy.ROOT / ".ci" / "run").read_text(encoding="utf-8")
    installed = set(re.findall(r"^packages=\((.*?)^\)", script, re.DOTALL | re.MULTILINE)[0].split())
    asked = {
        package
        for module in TESTS
        if not module.path.startswith("tests/bench/")
        for package in re.findall(r'package="([a-z0-9.+-]+)"', module.source)
    }

    assert asked
    assert asked - installed == set()


def test_each_declared_dependency_is_used_and_each_used_one_declared() -> None:
    """A library that nothing imports is weight on every VM; one that comes along by accident may leave the same way."""
    project = tomllib.loads((tidy.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(chain(project["dependencies"], *project["optional-dependencies"].values()))
    names = {re.split(r"[<>=;\[ ]", one)[0].lower().replace("-", "_") for one in wanted}
    import_name = {"pyyaml": "yaml", "paho_mqtt": "paho"}
    declared = {import_name.get(name, name) for name in names} - tidy.FREE_LIBRARIES

    assert set().union(*(tidy.third_party(module) for module in PRODUCT)) == declared


_EACH_ALONE = """
import importlib, os, sys, traceback
libraries, modules = sys.argv[1].split(), sys.argv[2].split()
for name in libraries:
    importlib.import_module(name)
for name in modules:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException:
            print(f"{name}: {traceback.format_exc()}", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork(2)")
def test_every_module_can_be_imported_first() -> None:
    """No module relies on another of ours having been imported before it. Libraries are loaded once, to save a minute."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _EACH_ALONE, " ".join(_libraries()), " ".join(_own_names())],
        cwd=tidy.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, ""), done.stderr


POSIX_ONLY = frozenset({"fcntl", "grp", "pwd", "resource", "termios", "syslog", "dbus_fast"})


def _libraries() -> list[str]:
    """Everything foreign that any module imports, but what only POSIX has."""
    names = {name for module in PRODUCT for _, name in tidy.imported(module)}
    return sorted(
        name
        for name in names
        if name.partition(".")[0] not in tidy.MAY_IMPORT.keys() | POSIX_ONLY
        and not name.startswith("_")
        and importlib.util.find_spec(name) is not None
    )


def _own_names() -> list[str]:
    return [module.name for module in PRODUCT if not module.name.endswith("__main__")]


_AS_ON_WINDOWS = """
import sys, importlib
libraries, modules = sys.argv[1].split(), sys.argv[2].split()
for name in libraries:
    importlib.import_module(name)
for name in ("fcntl", "grp", "pwd", "resource", "termios", "syslog", "dbus_fast"):
    for loaded in [known for known in sys.modules if known.partition(".")[0] == name]:
        del sys.modules[loaded]
    sys.modules[name] = None
sys.platform = "win32"
for name in modules:
    importlib.import_module(name)
"""


def test_every_module_imports_where_posix_is_missing() -> None:
    """An agent for Windows is the same wheel. Libraries are loaded first: they are not on trial, and know better."""
    done = subprocess.run(
        [sys.executable, "-c", _AS_ON_WINDOWS, " ".join(_libraries()), " ".join(_own_names())],
        cwd=tidy.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


CORE = "collector/holdfast_collector/core/planted.py"
SHELL = "collector/holdfast_collector/planted.py"

PLANTED: list[tuple[tidy.Law, str, str, str]] = [
    (tidy.forbidden_imports, SHELL, "import holdfast_agent.app", "must not know holdfast_agent.app"),
    (tidy.forbidden_imports, "agent/holdfast_wire/planted.py", "from holdfast_rules import key", "must not"),
    (tidy.forbidden_imports, "agent/holdfast_agent/planted.py", "def f():\n    import holdfast_rules", ":2:"),
    (tidy.impurities, CORE, "import time", "imports time"),
    (tidy.impurities, CORE, "from os import path", "imports os"),
    (tidy.impurities, CORE, "def f():\n    import structlog", "imports structlog"),
    (tidy.impurities, CORE, "def f():\n    return open('x')", "calls open"),
    (tidy.impurities, CORE, "from datetime import datetime\nx = datetime.now()", "asks for datetime.now"),
    (tidy.long_functions, SHELL, "def f():\n" + "    x = 1\n" * 70, "f has 71 lines"),
    (tidy.long_files, SHELL, "f()\n" * 501, "501 lines"),
    (tidy.broad_excepts, SHELL, "try:\n    f()\nexcept Exception:\n    pass", "catches Exception"),
    (tidy.broad_excepts, SHELL, "try:\n    f()\nexcept:\n    pass", "catches everything"),
    (tidy.broad_excepts, SHELL, "try:\n    f()\nexcept (OSError, BaseException):\n    pass", "BaseException"),
    (tidy.unexplained_ignores, SHELL, "x = f()  # type: ignore[misc]", "without a reason"),
    (tidy.unexplained_ignores, SHELL, "x = f()  # noqa: BLE001", "without a reason"),
    (tidy.sleeps, "tests/planted.py", "import time\ntime.sleep(0.1)", "time.sleep(0.1)"),
    (
        tidy.sleeps,
        "tests/planted.py",
        "from asyncio import sleep\nasync def f():\n    await sleep(1)",
        "sleep(1)",
    ),
    (tidy.assertionless_tests, "tests/planted.py", "def test_x():\n    f()", "test_x asserts nothing"),
    (tidy.undocumented, SHELL, "x = 1", "no docstring"),
    (tidy.nameless, "agent/holdfast_agent/disk_utils.py", "", "hides the noun"),
]


@pytest.mark.parametrize(("law", "path", "source", "said"), PLANTED)
def test_law_finds_a_planted_offence(law: tidy.Law, path: str, source: str, said: str) -> None:
    found = law(parse(path, source))

    assert len(found) == 1
    assert said in found[0]


INNOCENT: list[tuple[tidy.Law, str, str]] = [
    (tidy.forbidden_imports, SHELL, "from holdfast_rules import key\nimport holdfast_wire"),
    (tidy.long_files, SHELL, "TABLE = [\n" + "    1,\n" * 600 + "]\n"),
    (tidy.broad_excepts, SHELL, "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
    (tidy.impurities, CORE, "from datetime import datetime\nx = datetime.fromtimestamp(0.0)"),
    (tidy.impurities, CORE, "def f(clock):\n    return clock.now()"),
    (tidy.unexplained_ignores, SHELL, "x = f()  # type: ignore[misc]  # the stub is wrong here"),
    (tidy.unexplained_ignores, SHELL, "x = f()  # noqa: BLE001 - a probe may fail in any way"),
    (tidy.sleeps, "tests/planted.py", "import asyncio\nasync def f():\n    await asyncio.sleep(0)"),
    (tidy.assertionless_tests, "tests/planted.py", "def same():\n    assert f()\ndef test_x():\n    same()"),
    (
        tidy.assertionless_tests,
        "tests/planted.py",
        "def test_x():\n    with pytest.raises(OSError):\n        f()",
    ),
]


@pytest.mark.parametrize(("law", "path", "source"), INNOCENT)
def test_law_accuses_nobody_wrongly(law: tidy.Law, path: str, source: str) -> None:
    assert law(parse(path, source)) == []
