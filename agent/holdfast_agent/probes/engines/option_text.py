"""The ways in which engines are told things: command lines, ini files, flat YAML, Java properties."""

import re
from collections.abc import Iterator, Sequence

from holdfast_agent.probes.engines.engine import unquoted


def option(arguments: Sequence[str], *names: str) -> str | None:
    """The last value given as `--name=value`, `--name value`, and with one dash likewise."""
    found = None
    for index, argument in enumerate(arguments):
        for name in names:
            if argument.startswith(f"{name}="):
                found = argument[len(name) + 1 :]
            elif argument == name and index + 1 < len(arguments):
                found = arguments[index + 1]
    return found


def flag(arguments: Sequence[str], name: str) -> bool:
    """Whether a switch is on: `--name`, `--name=true`."""
    return name in arguments or any(
        argument.startswith(f"{name}=") and argument.partition("=")[2].lower() in ("true", "1", "on", "yes")
        for argument in arguments
    )


def ini(text: str) -> Iterator[tuple[str, str, str]]:
    """(section, key, value) of each line; keys without a value have an empty one. Comments begin with # or ;."""
    section = ""
    for line in text.splitlines():
        line = line.strip()
        if not line or line[0] in "#;!":
            continue
        if line[0] == "[":
            section = line.strip("[]").strip()
            continue
        key, _, value = line.partition("=")
        yield section, key.strip(), unquoted(re.sub(r"\s[#;].*$", "", value))


def yaml_values(text: str) -> dict[str, list[str]]:
    """Dotted key → values of a plain YAML file: mappings by indentation, scalars, and lists of scalars.

    Enough for what engines write; anchors, flow mappings and block texts are passed over.
    """
    values: dict[str, list[str]] = {}
    open_keys: list[tuple[int, str]] = []
    for raw in text.splitlines():
        line = re.sub(r"(^|\s)#.*$", "", raw).rstrip()
        if not line.strip() or line.lstrip().startswith(("---", "%")):
            continue
        indent, body = len(line) - len(line.lstrip()), line.strip()
        if body.startswith("- "):
            if open_keys:
                values.setdefault(".".join(key for _, key in open_keys), []).append(unquoted(body[2:]))
            continue
        key, colon, value = body.partition(":")
        if not colon:
            continue
        while open_keys and open_keys[-1][0] >= indent:
            open_keys.pop()
        open_keys.append((indent, unquoted(key)))
        value = value.strip()
        if value:
            dotted = ".".join(each for _, each in open_keys)
            listed = value[1:-1].split(",") if value[0] == "[" and value[-1] == "]" else [value]
            values[dotted] = [unquoted(each) for each in listed]
    return values


def properties(text: str) -> dict[str, str]:
    """Java properties: `key=value` or `key: value`."""
    found = {}
    for line in text.splitlines():
        line = line.strip()
        if line and line[0] not in "#!":
            key, _, value = re.sub(r"\s*[=:]\s*", "=", line, count=1).partition("=")
            found[key] = value.strip()
    return found
