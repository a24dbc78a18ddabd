"""Judges what no message calls for: rules that look back in time, and all rules when they are new.

A slice of the fleet at every tick, so that no tick takes long.
"""

from collections.abc import Callable, Mapping

from holdfast_collector.core.effect import Commit, Effect
from holdfast_collector.core.judge import Court
from holdfast_collector.core.node import Node

Restate = Callable[[Node, float, Commit, list[Effect]], None]

SWEEP_SECONDS = 30.0
"""Every resource whose rules depend on time alone is judged this often, whatever arrives."""
ANEW_PER_TICK = 50
"""Nodes judged whole at once after new rules came: some tens of milliseconds."""


class Sweep:
    """Where in the fleet it is."""

    def __init__(self, court: Court, nodes: Mapping[str, Node], restate: Restate, started_at: float) -> None:
        """`restate` brings up to date what of a node's facts time alone changes."""
        self._court = court
        self._restate = restate
        self._nodes = nodes
        self._started_at = started_at
        self._swept_at = started_at
        self._by_time: list[str] = []
        self._slice = 1
        self._anew: list[str] = []
        """Nodes that the rules now in force have not seen whole yet."""

    def begin_anew(self) -> None:
        """New rules are in force: facts that do not change would not call for a judgement."""
        self._anew = list(self._nodes)

    def turn(self, at: float, *, warm: bool, commit: Commit, effects: list[Effect]) -> None:
        """The next slice."""
        self._judge_anew(at, warm=warm, commit=commit, effects=effects)
        if not self._by_time:
            if at - self._swept_at < SWEEP_SECONDS and self._swept_at != self._started_at:
                return
            self._swept_at = at
            self._by_time = list(self._nodes)
            self._slice = max(1, int(len(self._by_time) / SWEEP_SECONDS) + 1)
        for name in self._by_time[-self._slice :]:
            node = self._nodes.get(name)
            if node is not None:
                self._restate(node, at, commit, effects)
                self._court.judge_by_time(node, at, warm=warm, commit=commit, effects=effects)
        del self._by_time[-self._slice :]

    def _judge_anew(self, at: float, *, warm: bool, commit: Commit, effects: list[Effect]) -> None:
        for name in self._anew[-ANEW_PER_TICK:]:
            node = self._nodes.get(name)
            if node is None:
                continue
            node.forget_histories(self._court.in_force(name).affected)
            for key in list(node.resources):
                self._court.judge_whole(node, key, at, warm=warm, commit=commit, effects=effects)
        del self._anew[-ANEW_PER_TICK:]
