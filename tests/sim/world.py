"""Machines with services that fail and recover, in a scene that does its worst."""

from functools import partial

from tests.sim.agent import INTERVAL, Machine
from tests.sim.invariants import Invariants
from tests.sim.scene import CALM, Scene, Weather

RULES = """
rules:
  - alert: ServiceDown
    id: S-01
    resource: service
    when: not up
    for: 10s
    severity: page
    verdict: at_risk
    summary: "{node}: {resource} is down"
  - alert: ServiceCrashed
    id: S-02
    resource: service
    when: delta(unit_failed_total, "10m") > 0
    severity: ticket
    summary: "{node}: {resource} failed"
  - alert: NodeSilent
    id: S-03
    resource: node
    when: not reporting and session != "stopped"
    for: 20s
    severity: page
    summary: "{node} is silent"
"""


class World(Scene):
    """Machines under one seeded clock."""

    rules_text = RULES

    def __init__(self, seed: int, weather: Weather | None = None) -> None:
        self.invariants = Invariants(self)
        super().__init__(seed, weather or Weather(), self.invariants)
        self.machines = [Machine(f"n{n}", self.rng) for n in range(self.rng.randint(1, 4))]
        for machine in self.machines:
            machine.start(self.now, reboot=True)
            machine.connect()
            self.after(self.rng.random() * INTERVAL, partial(self._beat, machine))

    def heal(self) -> None:
        """The weather clears, everything runs again, and enough time passes for the truth to arrive."""
        self.weather = CALM
        for machine in self.machines:
            if not machine.running:
                machine.start(self.now, reboot=False)
            if not machine.connected:
                machine.connect()
        self.run(300.0)

    # ---- machines ------------------------------------------------------------------------------------------------

    def _beat(self, machine: Machine) -> None:
        """One interval of a machine's life."""
        self.after(INTERVAL, lambda: self._beat(machine))
        for service in machine.up:
            if self.chance(self.weather.flip):
                machine.flip(service, self.now)
        if machine.running and self.chance(self.weather.agent_crash):
            self._stop_agent(machine)
        elif machine.running and self.chance(self.weather.reboot):
            self._stop_agent(machine)
            machine.start(self.now, reboot=True)
        if not machine.running:
            if self.chance(0.3) or self.weather is CALM:
                machine.start(self.now, reboot=False)
            return
        if machine.connected and self.chance(self.weather.disconnect):
            self._lose_connection(machine)
        if not machine.connected:
            if self.chance(0.5) or self.weather is CALM:
                machine.connect()
            return
        for payload in machine.due(self.now):
            self.send_up(machine.name, payload)
        self.send_up(machine.name, machine.report(self.now))

    def _stop_agent(self, machine: Machine) -> None:
        if machine.connected:
            self._lose_connection(machine)
        machine.running = False

    def _lose_connection(self, machine: Machine) -> None:
        """The broker notices some time later, maybe when the next connection already stands."""
        will = machine.will(self.now)
        machine.connected = False
        self.after(self.rng.random() * 8, lambda: self.send_up(machine.name, will))

    def hear(self, node: str, payload: bytes) -> None:
        """To the machine, if it listens."""
        machine = next(machine for machine in self.machines if machine.name == node)
        if machine.running and machine.connected:
            for event_id in machine.heard(payload, self.now):
                self.invariants.forgotten_by_agent(event_id)
