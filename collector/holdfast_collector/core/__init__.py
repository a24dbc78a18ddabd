"""The pure core: events in, effects out. It knows no clock, socket, file or logger.

`event`    what can reach it            `effect`     what it wants done
`record`   what survives a restart      `node`       one node as the collector knows it
`fold`     a message into a node        `judge`      rules over a node's resources
`testimony`  witnesses and reads into chains         `standing`   which machine speaks, and its fate at a boot
`rulings`  the verdicts                 `recollection` those of before a restart, until their evidence is back
`groups`    verdicts on services of several nodes    `ruled`        a verdict that stands
`comparison` the outcome table of reads
`promise`, `reading`, `absence`   what a chain remembers after a witness, a read, and where it is missed
`chain`, `heard`, `lives`, `precedence`, `survival`, `reboot_fate`, `witness_facts`, `exhibit`   the nouns of that
`collector`  the owner of all of it: `handle(event) -> [effect]`
"""
