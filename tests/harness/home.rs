//! Folders of one Nexus, and whatever runs in them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::entries::is_mark;

/// How long processes may take to be gone once they are killed.
const DYING: Duration = Duration::from_secs(20);

/// A home, with XDG folders below it. With the value go the folders and every process that works in them.
pub struct Home {
    folder: TempDir,
}

impl Home {
    /// A new one, whose configuration lets VMs be plain processes. Its path is short, for the sake of sockets.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    pub fn new() -> Self {
        Self::new_in(Path::new("/tmp"))
    }

    /// As [`new`](Self::new), in that folder.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    pub fn new_in(folder: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("nx").tempdir_in(folder).expect("a temporary folder");
        let home = Self { folder };
        for folder in ["config/nexus", "state", "data", "run", "home"] {
            fs::create_dir_all(home.path().join(folder)).expect("a folder");
        }
        home.configure("vmm:\n  allow-process: true\n");
        home
    }

    /// Writes nexus.yaml.
    ///
    /// # Panics
    /// When it can't.
    pub fn configure(&self, yaml: &str) {
        fs::write(self.configuration(), yaml).expect("the configuration is written");
    }

    /// Where all of it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// nexus.yaml.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.path().join("config/nexus/nexus.yaml")
    }

    /// The store's file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path().join("state/nexus/nexus.db")
    }

    /// Images, assets and workspaces.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path().join("data/nexus")
    }

    /// The user's own folder, from which images may be imported.
    #[must_use]
    pub fn user(&self) -> PathBuf {
        self.path().join("home")
    }

    /// What a process has to know to find all this.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<&'static str, PathBuf> {
        [
            ("HOME", "home"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_RUNTIME_DIR", "run"),
        ]
        .map(|(name, folder)| (name, self.path().join(folder)))
        .into()
    }

    /// Every file and folder that Nexus keeps for things: not the store, nor the folders that all of a kind share, nor the
    /// marks of who uses those.
    ///
    /// # Panics
    /// When they can't be listed.
    #[must_use]
    pub fn things(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for folder in ["data/nexus/images", "data/nexus/assets", "data/nexus/workspaces", "run/nexus/vm"] {
            list(&self.path().join(folder), &mut found);
        }
        found.sort();
        found
    }

    /// The processes that were told of these folders, and everything below them.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let table = ProcessTable::read();
        let mark = self.path().as_os_str().as_bytes();
        let mut found: Vec<i32> = table.told_of(mark);
        let mut index = 0;
        while let Some(&pid) = found.get(index) {
            for child in table.children(pid) {
                if !found.contains(&child) {
                    found.push(child);
                }
            }
            index += 1;
        }
        found
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let end = Instant::now() + DYING;
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() > end {
                return;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn list(folder: &Path, found: &mut Vec<PathBuf>) {
    // One that is not there has nothing in it.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| !is_mark(&entry.file_name())) {
        found.push(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), found);
        }
    }
}

/// Every process at one instant: its parent and its command line.
struct ProcessTable(BTreeMap<i32, (i32, Vec<u8>)>);

impl ProcessTable {
    fn read() -> Self {
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let mut table = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // One that has gone meanwhile, or is a zombie, is no process to care about.
            let (Ok(stat), Ok(line)) = (fs::read(entry.path().join("stat")), fs::read(entry.path().join("cmdline")))
            else {
                continue;
            };
            let Some((state, parent)) = state_and_parent(&stat) else { continue };
            if pid != own && state != b'Z' {
                table.insert(pid, (parent, line));
            }
        }
        Self(table)
    }

    fn told_of(&self, mark: &[u8]) -> Vec<i32> {
        let told = |line: &[u8]| line.windows(mark.len()).any(|part| part == mark);
        self.0.iter().filter(|(_, (_, line))| told(line)).map(|(pid, _)| *pid).collect()
    }

    fn children(&self, pid: i32) -> Vec<i32> {
        self.0.iter().filter(|(_, (parent, _))| *parent == pid).map(|(child, _)| *child).collect()
    }
}

/// Fields 3 and 4 of `proc_pid_stat(5)`; the command's name before them stands in parentheses and may hold any byte.
fn state_and_parent(stat: &[u8]) -> Option<(u8, i32)> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 2..)?).ok()?;
    let mut fields = rest.split(' ');
    Some((*fields.next()?.as_bytes().first()?, fields.next()?.parse().ok()?))
}
