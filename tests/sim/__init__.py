"""The seeded simulator: the collector's real core and the agent's real delivery, in a world that does its worst.

`world`    virtual time, the broker that loses, repeats, reorders and cuts, the disk that outlives a crash
`agent`    a machine: services that fail and recover, events, reboots; spooling by `holdfast_agent.core`
`invariants`  what must never be
`scene`    what both share: virtual time, the broker that loses, repeats, reorders and cuts, the store
`ordeal`   machines whose volumes are witnessed, and what befalls them; `guest` is one, `medium` a volume of it
`reckoning`  what the collector may and must say of a volume, by what really became of its promises

Replay one seed: `python -m tests.sim SEED`, or `python -m tests.sim ordeal SEED`.
"""
