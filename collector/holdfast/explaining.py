"""`holdfast explain`: an answer of `/api/v1/explain` as a tree for people.

VolumeSpaceLow (V-31, ticket) on db-1, volume /srv: firing, and holds
  free_ratio < volume_space_low                yes
    free_ratio                                 0.031   volumes, 4s ago
    volume_space_low                           0.05
ends  clear when free_ratio >= volume_space_low
      and observed so for 15m
"""

from typing import Any

from holdfast.standing import duration
from holdfast_rules.template import show

WIDTH = 52
"""Where values begin; longer conditions push them to the right."""


def explanation_lines(answer: Any) -> list[str]:
    """The whole answer."""
    about = f"{answer['resource_kind']} {answer['resource']}"
    rule = f"{answer['alert']} ({answer['rule_id']}, {answer['severity']})"
    lines = [
        f"{rule} on {answer['node'] or 'the collector'}, {about}: {answer['state']}; the rule says {answer['finding']}",
        *_tree(answer["condition"], 1),
    ]
    if answer["clear_condition"] is not None:
        lines += ["clear_when", *_tree(answer["clear_condition"], 1)]
    lines += [f"{'ends' if not number else '':6}{step}" for number, step in enumerate(answer["ends"])]
    lines += _timing(answer)
    for row in answer["history"]:
        lasted = duration(row["resolved_at"] - row["pending_since"])
        ago = duration(answer["at"] - row["resolved_at"])
        lines.append(f"before  episode {row['episode']} lasted {lasted} and ended {ago} ago")
    return [*lines, f"rule  {answer['file']}"]


def _timing(answer: Any) -> list[str]:
    current = answer["current"]
    if current is None:
        wanted = (
            f"; fires when observed to hold for {duration(answer['for_seconds'])}"
            if answer["for_seconds"]
            else ""
        )
        return [f"now   no alert{wanted}"]
    since = current["fired_at"] or current["pending_since"]
    notes = [f"{current['state']} since {duration(answer['at'] - since)}, episode {current['episode']}"]
    if current["acknowledged"]:
        notes.append(f"acknowledged: {current['acknowledged']}")
    if current.get("cause_over"):
        notes.append(
            f"explained by {current['inhibited_by']} until that ended; nobody is told before it is seen again"
        )
    elif current["inhibited_by"]:
        notes.append(f"explained by {current['inhibited_by']}, so nobody was told")
    return [f"now   {'; '.join(notes)}"]


def _tree(part: Any, depth: int) -> list[str]:
    head = "  " * depth + part["text"]
    notes = [note for note in (_whence(part.get("whence")), part.get("note", "")) if note]
    line = f"{head:{WIDTH}} {_value(part):12} {'; '.join(notes)}".rstrip()
    return [line, *(row for below in part.get("parts", ()) for row in _tree(below, depth + 1))]


def _value(part: Any) -> str:
    if part["value"] is None:
        return "unknown"
    value = part["value"]
    spec = {"bytes": "bytes", "seconds": "duration"}.get(part.get("unit", ""), "")
    return show(value, "" if isinstance(value, bool | str) else spec)


def _whence(whence: Any) -> str:
    if not whence:
        return ""
    said = [whence["probe"]] if whence["probe"] else []
    if whence["age_seconds"] is not None and whence["probe"] != "collector":
        said.append(f"{duration(whence['age_seconds'])} ago")
    if whence["problem"]:
        said.append(whence["problem"])
    return ", ".join(said)
