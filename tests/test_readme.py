"""What the README tells is there: commands, files, metrics, configuration. A page that lies costs more than none."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import trustme

from holdfast.watching import places
from holdfast_collector import config as collector_config
from holdfast_wire import fact
from tests import tidy

README = (tidy.ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    path
    for folder in (
        tidy.ROOT,
        *(tidy.ROOT / name for name in ("agent", "collector", "rules", "systemd", "tests")),
    )
    for path in folder.glob("README.md")
)
COMMANDS = {
    "holdfast": "holdfast",
    "holdfast-agent": "holdfast_agent",
    "holdfast-collector": "holdfast_collector",
}
BUILDS = re.compile(r"`?make ([\w-]+)")


def headings(page: str) -> set[str]:
    """The anchors of a page as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    }


GROUPS = {"rules", "restore"}
"""Commands that have commands of their own."""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(tidy.ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    broken = []
    for target in re.findall(r"\]\(([^)]+)\)", page):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists() or (anchor and anchor not in headings(file.read_text(encoding="utf-8"))):
            broken.append(target)

    assert broken == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(tidy.ROOT)))
def test_every_command_that_is_named_exists(path: Path) -> None:
    """`holdfast alerts`, `holdfast-agent once --json`: verbs and long options."""
    page = path.read_text(encoding="utf-8")
    named = set(
        re.findall(r"(?:^|[`/ ])(holdfast(?:-agent|-collector)?) ([a-z][a-z-]+)((?: [^`\n|]*)?)[`\n]", page)
    )
    helps: dict[tuple[str, ...], str] = {}
    wrong = []
    for command, verb, rest in sorted(named):
        if verb in COMMANDS or f"{command} {verb}" in NO_COMMAND:
            continue
        words = (
            [verb, *re.findall(r"^ (check|test|export|replay|announce)\b", rest)]
            if verb in GROUPS
            else [verb]
        )
        key = (command, *words)
        if key not in helps:
            done = subprocess.run(
                [sys.executable, "-m", COMMANDS[command], *words, "--help"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            helps[key] = done.stdout if done.returncode == 0 else ""
        if not helps[key]:
            wrong.append(" ".join(key))
        wrong += [
            f"{' '.join(key)} {option}"
            for option in re.findall(r"--[a-z-]+", rest)
            if option not in helps[key]
        ]

    assert wrong == []


NO_COMMAND = {"holdfast uses", "holdfast alone", "holdfast as", "holdfast answers"}
"""Sentences that begin like one."""


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (tidy.ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))

    assert set(BUILDS.findall(README)) == {"run", "test", "long-test", "vm-test"}
    assert targets >= {"run", "test", "long-test", "vm-test", "lint"}


def test_the_first_look_is_what_up_prints() -> None:
    """Where to look, with the command as a shell finds it; the rest of it is what one machine happens to be."""
    look = README.partition("## First look")[2].split("```")[1]
    folder = re.findall(r"is below (\S+)", look)[0]
    broker = re.findall(r"installed, (mqtt://\S+)", look)[0]

    for line in places("http://127.0.0.1:9760", Path(folder), broker, ".venv/bin/holdfast"):
        assert f"\n{line}\n" in look


def families() -> set[str]:
    """Every family that can be exported: those of facts, and those the collector names itself."""
    source = "".join(module.source for module in tidy.modules("collector/holdfast_collector"))
    return {one.metric for one in fact.FACTS} | set(re.findall(r'"(holdfast_[a-z_]+)"', source))


def test_every_metric_that_is_named_is_exported() -> None:
    rows = re.findall(r"^\| (`holdfast_.*?`) \|", README, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"holdfast_[a-z_]+", row)}

    assert len(named) > 10
    assert named - families() == set()


def test_the_receivers_in_the_example_are_taken_by_the_collector() -> None:
    examples = re.findall(r"^```toml\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    read = [collector_config.parse(text, "README.md", {}) for text in examples]

    assert [[receiver.name for receiver in config.receiver] for config in read] == [
        ["on-call", "pager-bridge"]
    ]


@pytest.mark.parametrize("name", ["agent.toml", "collector.toml"])
def test_example_configurations_are_taken_but_for_files_of_another_machine(name: str, tmp_path: Path) -> None:
    """With the receivers that are commented out, too."""
    text = (tidy.ROOT / "systemd" / name).read_text(encoding="utf-8")
    text = re.sub(r"^#(?=\[|[a-z_]+ = )", "", text, flags=re.MULTILINE)
    text = text.replace("BROKER", "broker.example.net").replace("NODE", "web-1")
    certificate = trustme.CA().issue_cert("web-1")
    contents = {
        ".crt": certificate.cert_chain_pems[0].bytes(),
        ".key": certificate.private_key_pem.bytes(),
        ".secret": b"secret\n",
    }
    for file in re.findall(r'"(/etc/holdfast/[^"]+)"', text):
        copy = tmp_path / Path(file).name
        copy.write_bytes(contents[copy.suffix])
        copy.chmod(0o600)
        text = text.replace(file, str(copy))
    tomllib.loads(text)
    (tmp_path / name).write_text(text)
    module = f"holdfast_{name.removesuffix('.toml')}"
    done = subprocess.run(
        [sys.executable, "-m", module, "check-config", "--config", str(tmp_path / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
