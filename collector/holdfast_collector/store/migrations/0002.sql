-- What volumes promised: the newest records that agents were told are safe with us, one row per chain.
CREATE TABLE chains (
    node     TEXT NOT NULL,
    chain_id TEXT NOT NULL,
    record   TEXT NOT NULL,
    UNIQUE (node, chain_id)
) STRICT;

-- Announced restores, one per node: what a node loses meanwhile is on record, and nobody is called.
CREATE TABLE windows (
    node   TEXT PRIMARY KEY,
    record TEXT NOT NULL
) STRICT;
