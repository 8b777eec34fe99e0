-- What happened, to VMs and to everything else, also to what is gone by now: the transitions of VMs are a part of it. And
-- who asked for what.
CREATE TABLE event (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    subject    TEXT NOT NULL,
    vm         TEXT,
    vm_name    TEXT,
    from_state TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    reason     TEXT NOT NULL,
    detail     TEXT NOT NULL
) STRICT;
INSERT INTO event
    SELECT seq, at, 'vm-state', 'vm/' || name, vm, name, from_state, to_state, reason, detail
    FROM vm_history JOIN vm ON vm.id = vm_history.vm ORDER BY seq;
DROP TABLE vm_history;
CREATE INDEX event_of_vm ON event (vm, seq) WHERE vm IS NOT NULL;

CREATE TABLE audit (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    request       TEXT NOT NULL,
    at            INTEGER NOT NULL,
    sender        TEXT NOT NULL,
    pid           INTEGER NOT NULL,
    executable    TEXT NOT NULL,
    unit          TEXT NOT NULL,
    caller_reason TEXT NOT NULL,
    path          TEXT NOT NULL,
    member        TEXT NOT NULL,
    subject       TEXT NOT NULL,
    vm            TEXT,
    vm_name       TEXT,
    arguments     TEXT NOT NULL CHECK (json_valid(arguments)),
    before_state  TEXT NOT NULL,
    after_state   TEXT NOT NULL,
    job           INTEGER NOT NULL,
    result        TEXT NOT NULL,
    message       TEXT NOT NULL,
    duration_usec INTEGER
) STRICT;
CREATE INDEX audit_under_way ON audit (request) WHERE result = '';

-- What nobody has said to stop may start with the daemon.
UPDATE vm SET desired = 'resting'
    WHERE desired = 'stopped' AND state_reason NOT IN ('requested', 'killed', 'cancelled');
