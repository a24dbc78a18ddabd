"""`holdfast-agent once`: look, print, send nothing."""

import msgspec

from holdfast_agent.command.glance import glance
from holdfast_agent.config import AgentConfig


def run(config: AgentConfig, *, json: bool, check: bool) -> int:
    """Print one glance as a page, as JSON or as a plugin's line; the exit code."""
    seen = glance(config)
    if check:
        from holdfast_agent.command.glance_check import judge

        answer = judge(seen)
        print(answer.line)
        return answer.code
    if json:
        sections = [*seen.sections, *([seen.witness] if seen.witness is not None else [])]
        print(msgspec.json.format(msgspec.json.encode({"node": config.node, "sections": sections})).decode())
    else:
        from holdfast_agent.command.glance_table import render

        print(render(config.node, seen))
    return 0
