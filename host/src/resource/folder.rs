//! What lies in the folders of Nexus.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nexus_model::ResourceKind;

use super::{Ground, Inode, Owner, Place, Resource, ResourceError, Standing, mark, running::Running};
use crate::{
    asset::{BZIMAGE, ELF, INITRD},
    storage::{DISK, is_draft, is_worked_on},
    unit::record,
    vmm::PREVIOUS_CONSOLE,
};

/// A draft that is younger than this may be about to be locked.
const UNLOCKED: Duration = Duration::from_secs(1);
/// What a file system makes in its own top folder.
const LOST_AND_FOUND: &str = "lost+found";
const NO_SUCH_NAMES: &str = "Nexus gives no such names";

/// What a folder has in it, one for each thing.
struct Kind {
    kind: ResourceKind,
    /// Whose a thing of that name is; none for a name that Nexus never gives.
    owner: fn(&str) -> Option<Owner>,
    /// All that Nexus puts into a thing.
    content: &'static [&'static str],
    /// What must be in it.
    needs: &'static [&'static str],
    /// What becomes of one without an owner.
    standing: Standing,
}

const RUNTIME: Kind = Kind {
    kind: ResourceKind::Runtime,
    owner: |name| name.parse().ok().map(Owner::Vm),
    content: &record::RUNTIME_CONTENT,
    needs: &[],
    standing: Standing::Ours,
};
const CONSOLE: Kind = Kind {
    kind: ResourceKind::Console,
    owner: |name| name.parse().ok().map(Owner::Vm),
    content: &["console.log", "console.log.1", PREVIOUS_CONSOLE],
    needs: &[],
    standing: Standing::Ours,
};
const ASSET: Kind = Kind {
    kind: ResourceKind::Asset,
    owner: |name| name.parse().ok().map(Owner::Asset),
    content: &[BZIMAGE, ELF, INITRD],
    needs: &[],
    standing: Standing::Ours,
};
const WORKSPACE: Kind = Kind {
    kind: ResourceKind::Workspace,
    owner: |name| name.strip_prefix('@')?.parse().ok().map(Owner::Workspace),
    content: &[DISK],
    needs: &[DISK],
    standing: Standing::Data,
};
const IMAGE: Kind = Kind {
    kind: ResourceKind::Image,
    owner: |name| name.parse().ok().map(Owner::Image),
    content: &[DISK],
    needs: &[DISK],
    standing: Standing::Data,
};

/// Lists everything in the folders. What belongs to a VM of which something runs is what `running` says.
pub(super) fn list(ground: &Ground, mut running: Running) -> Result<Vec<Resource>, ResourceError> {
    let mut found = Vec::new();
    // Runtime folders first: their records tell of what runs, too.
    let folders = [
        (&ground.runtimes, RUNTIME),
        (&ground.consoles, CONSOLE),
        (&ground.assets, ASSET),
        (&ground.workspaces, WORKSPACE),
        (&ground.images, IMAGE),
    ];
    for (folder, kind) in folders {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(ResourceError::io("read the folder", folder))?,
        };
        let doubt = ground.doubt(folder)?;
        for entry in entries {
            let path = entry.map_err(ResourceError::io("read the folder", folder))?.path();
            let mut resource = match look(&path, &kind) {
                Ok(Some(resource)) => resource,
                Ok(None) => continue,
                // It went meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // Whatever is wrong with one, the others are as they are.
                Err(error) => unseen(path.clone(), &error),
            };
            if let (Owner::Vm(vm), Standing::Ours) = (&resource.owner, &resource.standing) {
                resource.standing = running.standing(*vm, resource.kind, &path);
            }
            if let (Some(why), false) = (&doubt, matches!(resource.standing, Standing::Doubtful(_))) {
                resource.standing = Standing::Doubtful(why.clone());
            }
            found.push(resource);
        }
    }
    for root in ground.roots.iter().filter(|root| !ground.folders().contains(root)).collect::<BTreeSet<_>>() {
        found.extend(strangers(ground, root)?);
    }
    Ok(found)
}

/// What Nexus has not put into a folder that has folders of its own in it.
fn strangers(ground: &Ground, root: &Path) -> Result<Vec<Resource>, ResourceError> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(ResourceError::io("read the folder", root))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(ResourceError::io("read the folder", root))?;
        let (path, name) = (entry.path(), entry.file_name());
        let mut folders = ground.roots.iter().chain(ground.folders());
        let is_own = ground.files.contains(&path) || folders.any(|folder| folder.starts_with(&path));
        if is_own || name.to_str().is_some_and(|name| mark::is_one(name) || name == LOST_AND_FOUND) {
            continue;
        }
        match entry.metadata() {
            Ok(metadata) => found.push(stranger(path, &metadata, NO_SUCH_NAMES)),
            // It went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found.push(unseen(path, &error)),
        }
    }
    Ok(found)
}

/// What Nexus did not make.
fn stranger(path: PathBuf, metadata: &fs::Metadata, why: &str) -> Resource {
    Resource {
        kind: ResourceKind::File,
        place: Place::Path(path, Inode::of(metadata)),
        owner: Owner::Nobody,
        standing: Standing::Doubtful(why.to_owned()),
    }
}

/// What can't be looked at.
fn unseen(path: PathBuf, error: &io::Error) -> Resource {
    // Nothing has an inode of that number: it is another resource once it can be looked at.
    let inode = Inode::at(&path).ok().flatten().unwrap_or(Inode { device: 0, number: 0 });
    let standing = Standing::Doubtful(format!("it can't be looked at: {error}"));
    Resource { kind: ResourceKind::File, place: Place::Path(path, inode), owner: Owner::Nobody, standing }
}

/// What a path is; none for what is being worked on, and for Nexus' own marks.
fn look(path: &Path, kind: &Kind) -> io::Result<Option<Resource>> {
    let metadata = fs::symlink_metadata(path)?;
    let name = path.file_name().unwrap_or_default();
    let place = Place::Path(path.to_owned(), Inode::of(&metadata));
    let stranger = |why| Ok(Some(stranger(path.to_owned(), &metadata, why)));
    let Some(name) = name.to_str() else { return stranger(NO_SUCH_NAMES) };
    if mark::is_one(name) || name == LOST_AND_FOUND {
        return Ok(None);
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return stranger("it belongs to another user");
    }
    if is_draft(name) {
        let age = SystemTime::now().duration_since(changed_at(&metadata)).unwrap_or_default();
        if age < UNLOCKED || is_worked_on(path) {
            return Ok(None);
        }
        let resource = Resource { kind: ResourceKind::Draft, place, owner: Owner::Nobody, standing: Standing::Ours };
        return Ok(Some(resource));
    }
    let Some(owner) = (kind.owner)(name) else { return stranger(NO_SUCH_NAMES) };
    if !metadata.is_dir() {
        return stranger("Nexus has a folder of that name, or nothing");
    }
    let standing = content(path, kind)?.map_or_else(|| kind.standing.clone(), Standing::Doubtful);
    Ok(Some(Resource { kind: kind.kind, place, owner, standing }))
}

/// Why a folder's content is not what Nexus made.
fn content(path: &Path, kind: &Kind) -> io::Result<Option<String>> {
    let mut needed = kind.needs.to_vec();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if !kind.content.iter().any(|known| name == *known) {
            return Ok(Some(format!("there is something in it that Nexus did not make ({})", name.display())));
        }
        needed.retain(|needed| name != *needed);
    }
    Ok(needed.first().map(|missing| format!("there is no {missing} in it")))
}

/// When it was made, renamed or changed otherwise.
fn changed_at(metadata: &fs::Metadata) -> SystemTime {
    let (seconds, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
    let since = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0));
    SystemTime::UNIX_EPOCH + since
}

impl Inode {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }

    /// The inode at a path; none when there is nothing.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What files take on the disk at a path and below it, in bytes, without following links or crossing into other file
/// systems. What can't be looked at counts as nothing.
pub(super) fn allocated_bytes(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let mut bytes = metadata.blocks().saturating_mul(512);
    let mut folders: Vec<PathBuf> = if metadata.is_dir() { vec![path.to_owned()] } else { Vec::new() };
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
            if metadata.is_dir() && Some(metadata.dev()) == fs::symlink_metadata(path).ok().map(|top| top.dev()) {
                folders.push(entry.path());
            }
        }
    }
    bytes
}
