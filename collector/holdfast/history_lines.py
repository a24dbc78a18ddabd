"""What happened to a node or a group, in lines for a person. The answer of their `history` in the API in, text out."""

import time
from typing import Any


def history_lines(answer: Any) -> list[str]:
    """One line for each thing, the newest first."""
    rows = answer["history"]
    if not rows:
        return [f"{answer.get('node') or answer['group']}: nothing is on record"]
    lines = [_line(row) for row in rows]
    return [*lines, "there is more: ask with a greater --limit"] if answer["more"] else lines


def _line(row: Any) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(row["at"]))
    where = "node" if row["resource_kind"] == "node" else f"{row['resource_kind']} {row['resource']}"
    return f"{when}  {row['what']:8}  {where}: {row['summary']}"
