"""The seeded simulator: the collector's real core and the agent's real delivery, in a world that does its worst.

`world`    virtual time, the broker that loses, repeats, reorders and cuts, the disk that outlives a crash
`agent`    a machine: services that fail and recover, events, reboots; spooling by `holdfast_agent.core`
`invariants`  what must never be

Replay one seed: `python -m tests.sim SEED`.
"""
