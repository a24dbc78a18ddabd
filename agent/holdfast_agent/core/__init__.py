"""The agent's decisions, without a clock, a socket, a file or randomness: time and entropy are arguments.

`schedule`  when a probe looks, and how long to wait before the next try
`delivery`  which durable messages are sent now, and which again
`section`   what the probes say, cut into reports that fit
`session`   one run of the agent: positions, connections, reports; composed of the two above
"""
