-- Records are the JSON of the Structs in core/record.py; columns beside them exist to find, order and delete rows.

CREATE TABLE partitions (
    partition    TEXT PRIMARY KEY,
    epoch        INTEGER NOT NULL,            -- counts the owners: whoever holds an older number may not write
    next_episode INTEGER NOT NULL DEFAULT 1
) STRICT;

CREATE TABLE nodes (
    node   TEXT PRIMARY KEY,
    record TEXT NOT NULL
) STRICT;

CREATE TABLE alerts (
    key    TEXT PRIMARY KEY,
    record TEXT NOT NULL
) STRICT;

CREATE TABLE resolved (
    key    TEXT PRIMARY KEY,
    at     REAL NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX resolved_at ON resolved (at);

-- The outbox. A row leaves when its receiver has taken it.
CREATE TABLE notices (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,
    record   TEXT NOT NULL
) STRICT;

-- Durable messages whose effect is in this database.
CREATE TABLE seen (
    node       TEXT NOT NULL,
    install_id TEXT NOT NULL,
    epoch      INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    at         REAL NOT NULL,
    PRIMARY KEY (node, install_id, epoch, seq, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    id          INTEGER PRIMARY KEY,
    node        TEXT NOT NULL,
    received_at REAL NOT NULL,
    record      TEXT NOT NULL
) STRICT;
CREATE INDEX events_received_at ON events (received_at);
CREATE INDEX events_node ON events (node);

CREATE TABLE counts (
    node          TEXT NOT NULL,
    resource_kind TEXT NOT NULL,
    resource      TEXT NOT NULL,
    type          TEXT NOT NULL,
    record        TEXT NOT NULL,
    PRIMARY KEY (node, resource_kind, resource, type)
) STRICT;
