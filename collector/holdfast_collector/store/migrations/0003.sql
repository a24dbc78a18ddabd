-- What happened: every change of a verdict, in plain columns, for people ask by any of them.
CREATE TABLE turns (
    id       INTEGER PRIMARY KEY,
    node     TEXT NOT NULL,
    kind     TEXT NOT NULL,
    resource TEXT NOT NULL,
    at       REAL NOT NULL,
    before   TEXT,                            -- NULL: there was no verdict
    after    TEXT,                            -- NULL: there is none any more
    reason   TEXT NOT NULL
) STRICT;
CREATE INDEX turns_at ON turns (at);
CREATE INDEX turns_node ON turns (node, at);

-- The verdict that stands on each resource: a collector that starts knows since when.
CREATE TABLE verdicts (
    node     TEXT NOT NULL,
    kind     TEXT NOT NULL,
    resource TEXT NOT NULL,
    record   TEXT NOT NULL,
    PRIMARY KEY (node, kind, resource)
) STRICT;

-- A node's history is made of its resolved alerts and of what its boots turned out to be, too.
ALTER TABLE resolved ADD COLUMN node TEXT NOT NULL DEFAULT '';
UPDATE resolved SET node = coalesce(json_extract(record, '$.alert.node'), '') WHERE json_valid(record);
CREATE INDEX resolved_node ON resolved (node, at);

ALTER TABLE events ADD COLUMN type TEXT NOT NULL DEFAULT '';
UPDATE events SET type = coalesce(json_extract(record, '$.type'), '') WHERE json_valid(record);
CREATE INDEX events_reboot_fate ON events (node, received_at) WHERE type = 'reboot_fate';
