CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE vm (
    id                  TEXT PRIMARY KEY,
    name                TEXT NOT NULL UNIQUE,
    spec                TEXT NOT NULL CHECK (json_valid(spec)),
    desired             TEXT NOT NULL,
    state               TEXT NOT NULL,
    state_reason        TEXT NOT NULL,
    state_changed_at    INTEGER NOT NULL,
    phase               TEXT,
    vmm                 TEXT,
    cid                 INTEGER NOT NULL UNIQUE CHECK (cid BETWEEN 3 AND 4294967294),
    process             TEXT CHECK (json_valid(process)),
    exit                TEXT CHECK (json_valid(exit)),
    exit_reason         TEXT NOT NULL,
    created_at          INTEGER NOT NULL,
    started_at          INTEGER NOT NULL,
    stopped_at          INTEGER NOT NULL,
    boot_duration_usec  INTEGER,
    ready_duration_usec INTEGER,
    failure_count       INTEGER NOT NULL,
    recent_failures     TEXT NOT NULL CHECK (json_valid(recent_failures)),
    agent               TEXT CHECK (json_valid(agent)),
    generation          INTEGER NOT NULL
) STRICT;

CREATE TABLE vm_history (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    vm         TEXT NOT NULL REFERENCES vm (id) ON DELETE CASCADE,
    at         INTEGER NOT NULL,
    from_state TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    reason     TEXT NOT NULL,
    detail     TEXT NOT NULL
) STRICT;
CREATE INDEX vm_history_of_vm ON vm_history (vm, seq);

CREATE TABLE image (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    state      TEXT NOT NULL,
    digest     TEXT NOT NULL,
    path       TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    origin     TEXT NOT NULL,
    os_name    TEXT NOT NULL,
    os_version TEXT NOT NULL,
    metadata   TEXT NOT NULL CHECK (json_valid(metadata)),
    created_at INTEGER NOT NULL,
    CHECK (state <> 'ready' OR length(digest) = 64)
) STRICT;

CREATE TABLE workspace (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    label       TEXT NOT NULL,
    state       TEXT NOT NULL,
    backend     TEXT NOT NULL,
    path        TEXT NOT NULL,
    size_bytes  INTEGER NOT NULL,
    read_only   INTEGER NOT NULL CHECK (read_only IN (0, 1)),
    base        TEXT REFERENCES image (name) ON DELETE RESTRICT,
    vm          TEXT REFERENCES vm (id) ON DELETE RESTRICT,
    owner       TEXT REFERENCES vm (id) ON DELETE SET NULL,
    created_at  INTEGER NOT NULL,
    attached_at INTEGER NOT NULL,
    detached_at INTEGER NOT NULL,
    CHECK (state <> 'attached' OR vm IS NOT NULL),
    CHECK (state NOT IN ('ready', 'removing') OR vm IS NULL)
) STRICT;
CREATE INDEX workspace_base ON workspace (base);
CREATE INDEX workspace_vm ON workspace (vm);
CREATE INDEX workspace_owner ON workspace (owner);

CREATE TABLE asset (
    id           TEXT PRIMARY KEY,
    kind         TEXT NOT NULL,
    name         TEXT NOT NULL UNIQUE,
    state        TEXT NOT NULL,
    version      TEXT NOT NULL,
    architecture TEXT NOT NULL,
    digest       TEXT NOT NULL,
    source       TEXT NOT NULL,
    path         TEXT NOT NULL,
    elf_path     TEXT,
    verification TEXT NOT NULL,
    size_bytes   INTEGER NOT NULL,
    is_default   INTEGER NOT NULL CHECK (is_default IN (0, 1)),
    created_at   INTEGER NOT NULL,
    CHECK (state <> 'ready' OR length(digest) = 64),
    CHECK (is_default = 0 OR state = 'ready')
) STRICT;
CREATE UNIQUE INDEX asset_default ON asset (kind) WHERE is_default = 1;

CREATE TABLE job (
    id            INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 4294967295),
    kind          TEXT NOT NULL,
    objects       TEXT NOT NULL CHECK (json_valid(objects)),
    state         TEXT NOT NULL,
    error_name    TEXT,
    error_message TEXT,
    sender        TEXT NOT NULL,
    request       TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    finished_at   INTEGER NOT NULL,
    CHECK ((error_name IS NULL) = (error_message IS NULL))
) STRICT;
CREATE INDEX job_unfinished ON job (state) WHERE finished_at = 0;
