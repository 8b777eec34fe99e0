//! How the database is found, checked, made and brought up to date.
//!
//! What is not this program's to open is not touched: everything is looked at first, in ways that write nothing, and
//! only then is the database opened for writing.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nexus_model::{ErrorKind, InstanceId};
use nix::{errno::Errno, unistd::AccessFlags};
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig, named_params};

use crate::{
    Bounds, Store,
    column::Text,
    error::is_disk_full,
    header,
    schema::{self, APPLICATION_ID, STEPS, StepFailed},
};

/// How long to wait for whoever has the folder or the database locked: an actor or a daemon that is just going away, or
/// somebody's `sqlite3`.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// How often to look whether the folder is free.
const LOCK_STEP: Duration = Duration::from_millis(10);
/// What the write-ahead log may keep of the disk once its content is in the database.
const LOG_LIMIT_BYTES: u32 = 4 << 20;

/// What SQLite appends to a database's name for its write-ahead log.
pub(crate) const WAL: &str = "-wal";
const SHARED_MEMORY: &str = "-shm";
const ROLLBACK_JOURNAL: &str = "-journal";
/// What each of a database's files has after its name.
const PARTS: [&str; 4] = ["", WAL, SHARED_MEMORY, ROLLBACK_JOURNAL];
/// What a database is called until it is whole.
const UNFINISHED: &str = ".new";

/// Why the database could not be opened. Nothing was changed, but for [`OpenError::Migration`], where the steps before
/// the one that failed were taken.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has the state folder.
    #[error("another nexusd uses {}: stop it, or give this one a state folder of its own", .folder.display())]
    Taken {
        /// The state folder.
        folder: PathBuf,
    },
    /// Another process has the database locked.
    #[error("another process keeps {} locked: close it (`fuser {0}` says which it is), then start nexusd again", .path.display())]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// A newer Nexus made it.
    #[error(
        "{} has schema {found}, and this nexusd knows {known} at most: start the newer nexusd that made it, or move it away",
        .path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: u32,
        /// The newest schema version that this program knows.
        known: u32,
    },
    /// A database of some other program.
    #[error("{} belongs to another program: move it away, or give nexusd another state folder", .path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
        /// Its application id.
        application_id: u32,
    },
    /// No database at all.
    #[error("{} is no SQLite database: move it away, or put the right file in its place", .path.display())]
    NotADatabase {
        /// What is there instead.
        path: PathBuf,
    },
    /// A database that was damaged.
    #[error("{} is damaged ({detail}): keep a copy, then restore a backup or move it away", .path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is wrong with it, as SQLite says it.
        detail: String,
    },
    /// The database or its folder can't be written.
    #[error(
        "{} can't be read and written by this user: mount its file system writable, or give the file and its folder back",
        .path.display()
    )]
    ReadOnly {
        /// The file or folder.
        path: PathBuf,
    },
    /// The disk, or the quota, is full.
    #[error("the disk that holds {} is full: make room there", .path.display())]
    DiskFull {
        /// The database.
        path: PathBuf,
    },
    /// The database could not be brought up to date. It is as it was before that step.
    #[error("{} could not be brought to schema {to}: start the nexusd that made it, and report this", .path.display())]
    Migration {
        /// The database.
        path: PathBuf,
        /// The schema version that was not reached.
        to: u32,
        /// SQLite's own error.
        #[source]
        source: rusqlite::Error,
    },
    /// The folder or a file in it could not be used.
    #[error("{} can't be used for the database", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own error.
        #[source]
        source: io::Error,
    },
    /// SQLite failed in some other way.
    #[error("{} can't be opened", .path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// SQLite's own error.
        #[source]
        source: rusqlite::Error,
    },
}

impl OpenError {
    /// What kind of failure a caller is told of.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::DiskFull { .. } => ErrorKind::ResourcesExhausted,
            Self::Taken { .. } => ErrorKind::InUse,
            Self::ReadOnly { .. } => ErrorKind::PermissionDenied,
            Self::Locked { .. }
            | Self::Newer { .. }
            | Self::Foreign { .. }
            | Self::NotADatabase { .. }
            | Self::Corrupt { .. }
            | Self::Migration { .. }
            | Self::Io { .. }
            | Self::Database { .. } => ErrorKind::StorageFailed,
        }
    }

    fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path: path.to_owned() },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path: path.to_owned() }
            }
            _ => Self::Io { path: path.to_owned(), source },
        }
    }

    fn sqlite(path: &Path) -> impl Fn(rusqlite::Error) -> Self {
        move |source| {
            let path = path.to_owned();
            match source.sqlite_error_code() {
                _ if is_disk_full(&source) => Self::DiskFull { path },
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
                Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt { path, detail: source.to_string() },
                Some(ErrorCode::NotADatabase) => Self::NotADatabase { path },
                Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
                _ => Self::Database { path, source },
            }
        }
    }

    fn step(path: &Path) -> impl Fn(StepFailed) -> Self {
        move |StepFailed { to, source }| match Self::sqlite(path)(source) {
            Self::Database { path, source } => Self::Migration { path, to, source },
            other => other,
        }
    }
}

impl Store {
    /// Opens the database at `path`, or makes it where there is none: its folder for this user alone (0700), its file
    /// as well (0600). The folder stays locked until the store is dropped, so that no two daemons share one.
    ///
    /// # Errors
    /// See [`OpenError`]. A database that is not this program's to open is left exactly as it is.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, STEPS)
    }

    pub(crate) fn open_with(path: &Path, steps: &[&str]) -> Result<Self, OpenError> {
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(OpenError::io(folder))?;
        let lock = lock(folder)?;
        let stored = if path.symlink_metadata().is_ok() {
            inspect(path, folder, schema::version(steps))?
        } else {
            create(path, folder, steps)?;
            schema::version(steps)
        };
        let mut connection = connect(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(OpenError::io(path))?;
        schema::migrate(&mut connection, stored, steps).map_err(OpenError::step(path))?;
        if stored < schema::version(steps) {
            tracing::info!(from = stored, to = schema::version(steps), "the database was brought up to date");
        }
        connection.pragma_update(None, "foreign_keys", true).map_err(OpenError::sqlite(path))?;
        let instance = connection
            .query_row("SELECT value FROM meta WHERE key = 'instance'", [], |row| row.get::<_, Text<_>>(0))
            .map_err(|error| OpenError::Corrupt { path: path.to_owned(), detail: format!("its instance id: {error}") })?
            .0;
        Ok(Self { connection, path: path.to_owned(), instance, bounds: Bounds::default(), _folder: lock })
    }
}

/// The database at `path`, and every file that there can be beside it, whether it is or not.
#[must_use]
pub fn files(path: &Path) -> Vec<PathBuf> {
    let databases = [path.to_owned(), beside(path, UNFINISHED)];
    databases.iter().flat_map(|database| PARTS.map(|part| beside(database, part))).collect()
}

/// The name of a file that SQLite keeps beside a database.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes the folder's lock, which ends with the file that is returned. On the folder, not on a file in it: that leaves
/// no file behind, and closing it can't drop SQLite's own locks.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let file = File::open(folder).map_err(OpenError::io(folder))?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_STEP),
            Err(TryLockError::WouldBlock) => return Err(OpenError::Taken { folder: folder.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(OpenError::io(folder)(source)),
        }
    }
}

/// Makes a database under another name and moves it into place once it is whole, so that whatever is at `path` has
/// been a Nexus database from its first moment.
fn create(path: &Path, folder: &Path, steps: &[&str]) -> Result<(), OpenError> {
    let log = beside(path, WAL);
    if log.symlink_metadata().is_ok() {
        // SQLite would replay it into the new database.
        let detail = format!("it is gone, but {} is still there", log.display());
        return Err(OpenError::Corrupt { path: path.to_owned(), detail });
    }
    let unfinished = Unfinished::at(beside(path, UNFINISHED)).map_err(OpenError::io(path))?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished.0).map_err(OpenError::io(path))?;
    let mut connection = connect(&unfinished.0)?;
    schema::migrate(&mut connection, 0, steps).map_err(OpenError::step(path))?;
    let instance = InstanceId::random().map_err(|error| OpenError::io(path)(error.into()))?;
    connection
        .execute("INSERT INTO meta (key, value) VALUES ('instance', :id)", named_params! { ":id": Text(instance) })
        .map_err(OpenError::sqlite(path))?;
    connection.close().map_err(|(_, error)| OpenError::sqlite(path)(error))?;
    let sync = |path: &Path| File::open(path)?.sync_all();
    sync(&unfinished.0)
        .and_then(|()| fs::rename(&unfinished.0, path))
        .and_then(|()| sync(folder))
        .map_err(OpenError::io(path))
}

/// A database that is not whole yet. Whatever is left of it goes, whether it came to something or not.
struct Unfinished(PathBuf);

impl Unfinished {
    fn at(path: PathBuf) -> io::Result<Self> {
        let unfinished = Self(path);
        unfinished.remove()?;
        Ok(unfinished)
    }

    fn remove(&self) -> io::Result<()> {
        for part in PARTS {
            match fs::remove_file(beside(&self.0, part)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What can't be removed now is removed by the next attempt.
        let _ = self.remove();
    }
}

/// Looks at a database without writing to it, and says which schema it has.
fn inspect(path: &Path, folder: &Path, known: u32) -> Result<u32, OpenError> {
    let metadata = path.metadata().map_err(OpenError::io(path))?;
    if !metadata.is_file() {
        return Err(OpenError::NotADatabase { path: path.to_owned() });
    }
    writable(path, AccessFlags::R_OK | AccessFlags::W_OK)?;
    writable(folder, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK)?;
    let header = header::read(path)
        .map_err(OpenError::io(path))?
        .ok_or_else(|| OpenError::NotADatabase { path: path.to_owned() })?;
    if header.application_id != APPLICATION_ID {
        return Err(OpenError::Foreign { path: path.to_owned(), application_id: header.application_id });
    }
    if header.user_version > known {
        return Err(OpenError::Newer { path: path.to_owned(), found: header.user_version, known });
    }
    let connection = if pending(path, WAL) || pending(path, ROLLBACK_JOURNAL) {
        look_through_log(path)?
    } else {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(immutable(path), flags).map_err(OpenError::sqlite(path))?
    };
    let found: u32 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(OpenError::sqlite(path))?;
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(OpenError::sqlite(path))?;
    match verdict.as_str() {
        "ok" if found > 0 => Ok(found),
        "ok" => Err(OpenError::Corrupt { path: path.to_owned(), detail: "it has no schema".to_owned() }),
        _ => Err(OpenError::Corrupt { path: path.to_owned(), detail: verdict }),
    }
}

fn writable(path: &Path, access: AccessFlags) -> Result<(), OpenError> {
    match nix::unistd::eaccess(path, access) {
        Ok(()) => Ok(()),
        Err(Errno::EACCES | Errno::EPERM | Errno::EROFS) => Err(OpenError::ReadOnly { path: path.to_owned() }),
        Err(errno) => Err(OpenError::Io { path: path.to_owned(), source: errno.into() }),
    }
}

/// Whether SQLite keeps something beside the database that is not in it yet.
fn pending(path: &Path, suffix: &str) -> bool {
    beside(path, suffix).metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// A connection that sees what the log of a database that nobody closed holds, and leaves both as they are. In
/// exclusive mode the log's index is in memory, not in a file; where somebody else is reading, that can't be had.
fn look_through_log(path: &Path) -> Result<Connection, OpenError> {
    let look = |exclusive: bool| -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, read_write())?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        if exclusive {
            connection.busy_timeout(Duration::ZERO)?;
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        } else {
            connection.busy_timeout(LOCK_WAIT)?;
        }
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))?;
        Ok(connection)
    };
    match look(true) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => look(false),
        result => result,
    }
    .map_err(OpenError::sqlite(path))
}

/// The URI under which SQLite reads a database without locks and without files beside it: right only while nobody
/// writes to it.
fn immutable(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    uri
}

const fn read_write() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// Opens a database for good.
fn connect(path: &Path) -> Result<Connection, OpenError> {
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, read_write())?;
        connection.busy_timeout(LOCK_WAIT)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        // Off until the schema is up to date: a step may rebuild a table.
        connection.pragma_update(None, "foreign_keys", false)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // In WAL mode, NORMAL would lose the newest transactions with the power. Intent is stored before the act, and
        // the act survives: what a transaction says must be on the disk when it returns.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", LOG_LIMIT_BYTES)?;
        Ok(connection)
    };
    open().map_err(OpenError::sqlite(path))
}
