"""`holdfast-agent ask-devices`: what only root may ask of devices, for the agent to read.

Runs for a moment in a unit of its own, with root's rights over devices, so that the agent needs none. It reads no
configuration and takes no question from anybody: the programs and their arguments are fixed.
"""

import os
import sys
from pathlib import Path

import msgspec

from holdfast_agent.probes.device_answers_linux import ask_lvm, ask_mapper, ask_smart, stored

_QUESTIONS = {"lvm": ask_lvm, "mapper": ask_mapper, "smart": ask_smart}


def run(folder: Path) -> int:
    """Ask and write each file anew; 1 when the folder does not take them."""
    wrong = 0
    for name, asking in _QUESTIONS.items():
        try:
            answers = asking(stored(folder, name))
            _replace(folder / f"{name}.json", msgspec.json.encode(answers))
        except OSError as error:
            print(f"{folder / name}.json: {error.strerror}", file=sys.stderr)
            wrong = 1
            continue
        for subject, answer in answers.items():
            if answer.status == -1 and not answer.error.endswith("is not installed"):
                print(f"{subject}: {answer.error}", file=sys.stderr)
    return wrong


def _replace(path: Path, content: bytes) -> None:
    """Whole or not at all; nothing here has to survive a reboot. The folder's group may read."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    with open(descriptor, "wb") as file:
        file.write(content)
    os.replace(temporary, path)
