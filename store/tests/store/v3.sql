-- A database of schema 3 with a row of every kind, as the program that had schema 3 dumps it. From the release of
-- schema 3 on, this file is never edited; a later schema gets a file of its own beside it.
PRAGMA application_id = 0x4e455855;
PRAGMA user_version = 3;
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
INSERT INTO meta VALUES('instance','0badcafe');
CREATE TABLE vm (
    id                  TEXT PRIMARY KEY,
    name                TEXT NOT NULL UNIQUE,
    spec                TEXT NOT NULL CHECK (json_valid(spec)),
    desired             TEXT NOT NULL,
    state               TEXT NOT NULL,
    state_reason        TEXT NOT NULL,
    state_changed_at    INTEGER NOT NULL,
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
, kernel TEXT, initrd TEXT) STRICT;
INSERT INTO vm VALUES('0123456789abcdef','demo','{"image":"base","workspace":"demo","kernel":"kernel-6.18.9","initrd":null,"vmm":"auto","vcpus":2,"memory_bytes":268435456,"kernel_args":"quiet","env":{"LANG":"C.UTF-8"},"tags":["first"],"label":"The first one","role":"work","autostart":true,"restart_policy":"always","ephemeral":false}','running','running','vmm-started',1700000002000000,'qemu',3,'{"leader":{"pid":1000,"start_ticks":4711,"boot_id":"0a1b2c3d-0000-4000-8000-0123456789ab","pidfd_inode":77},"keeper":{"pid":999,"start_ticks":4710,"boot_id":"0a1b2c3d-0000-4000-8000-0123456789ab","pidfd_inode":null},"unit":"nexus-0badcafe-0123456789abcdef.service","invocation_id":"8f2d4c0e6b1a49d3a5c7e9f012345678"}','{"code":0}','exited with code 0',1700000000000000,1700000001000000,1700000000500000,30001,2300000,2,'[1700000000100000,1700000000200000]','{"version":"0.1.0","protocol_revision":1,"hostname":"demo","boot_id":"11111111-0000-4000-8000-0123456789ab","os_name":"debian","os_version":"12","connected_at":1700000002300000}',5,'kernel-6.18.9','initrd-6.18.9');
INSERT INTO vm VALUES('fedcba9876543210','new','{"image":null,"workspace":null,"kernel":null,"initrd":null,"vmm":"process","vcpus":1,"memory_bytes":134217728,"kernel_args":"","env":{},"tags":[],"label":"","role":"service","autostart":false,"restart_policy":"no","ephemeral":true}','resting','created','created',1700000003000000,NULL,4,NULL,NULL,'',1700000003000000,0,0,NULL,NULL,0,'[]',NULL,1,NULL,NULL);
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
INSERT INTO image VALUES('00000000000000aa','base','ready','5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a','/data/images/base',67108864,'/home/somebody/rootfs.ext4','debian','12','{"name":"a rootfs"}',1700000000000001);
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
    detached_at INTEGER NOT NULL, error_name TEXT, error_message TEXT CHECK ((error_name IS NULL) = (error_message IS NULL)),
    CHECK (state <> 'attached' OR vm IS NOT NULL),
    CHECK (state NOT IN ('ready', 'removing') OR vm IS NULL)
) STRICT;
INSERT INTO workspace VALUES('00000000000000bb','demo','a disk','attached','copy','/data/workspaces/demo',1073741824,0,'base','0123456789abcdef','0123456789abcdef',1700000000000002,1700000000000003,0,NULL,NULL);
INSERT INTO workspace VALUES('00000000000000dd','lost','','missing','btrfs','/data/workspaces/lost',1048576,1,'base',NULL,NULL,1700000000000008,0,0,'StorageFailed','its folder is gone');
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
INSERT INTO asset VALUES('00000000000000cc','kernel','kernel-6.18.9','ready','6.18.9','x86_64','c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0','/boot/vmlinuz','/data/assets/kernel-6.18.9','/data/assets/kernel-6.18.9.elf','digest',12345678,1,1700000000000004);
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
INSERT INTO job VALUES(7,'start-vm','["vm/demo"]','failed','HypervisorFailed','QEMU ended',':1.7','r-1',1700000000000005,1700000000000006);
INSERT INTO job VALUES(8,'stop-vm','[]','running',NULL,NULL,'','',1700000000000007,0);
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
INSERT INTO event VALUES(1,1700000001000000,'vm-state','vm/demo','0123456789abcdef','demo','created','starting','requested','');
INSERT INTO event VALUES(2,1700000002000000,'vm-state','vm/demo','0123456789abcdef','demo','starting','running','vmm-started','pid 1000');
INSERT INTO event VALUES(3,1700000004000000,'vm-removed','vm/old','00000000000000ee','old','','','','');
INSERT INTO event VALUES(4,1700000005000000,'actor-fault','supervisor/store',NULL,NULL,'ok','restarting','','panicked');
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
INSERT INTO audit VALUES(1,'00000000000000f1',1700000003500000,':1.7',4711,'/usr/bin/nexusctl','session.scope','spring cleaning','/org/workfort/Nexus1/vm/old','Remove','vm/old','00000000000000ee','old','{"options":{"force":true}}','running','',9,'ok','',1500);
INSERT INTO audit VALUES(2,'00000000000000f2',1700000005500000,'peer',0,'','','','/org/workfort/Nexus1','CreateVm','daemon',NULL,NULL,'{"name":""}','','',0,'','',NULL);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('job',8);
INSERT INTO sqlite_sequence VALUES('event',4);
INSERT INTO sqlite_sequence VALUES('audit',2);
CREATE INDEX workspace_base ON workspace (base);
CREATE INDEX workspace_vm ON workspace (vm);
CREATE INDEX workspace_owner ON workspace (owner);
CREATE UNIQUE INDEX asset_default ON asset (kind) WHERE is_default = 1;
CREATE INDEX job_unfinished ON job (state) WHERE finished_at = 0;
CREATE INDEX event_of_vm ON event (vm, seq) WHERE vm IS NOT NULL;
CREATE INDEX audit_under_way ON audit (request) WHERE result = '';
