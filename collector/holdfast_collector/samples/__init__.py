"""What arrived, kept for days: the core's own events, from which any rules can be replayed.

    core events ─▶ recorder ─▶ slice (a minute, or some megabytes) ─▶ files ─▶ replay
                     (memory)    packed and written by a thread        `data_dir/samples`

The core answers the same events with the same effects, so its events are the most faithful record there is: pending
times, staleness, silence, histories and explanations come out of a replay as they came out of the day.

A slice is complete in itself and carries its own checksum. A crash costs the slice that was in the making: at most
`SLICE_SECONDS`. The alerts' database is another file, which no damage here can touch.
"""
