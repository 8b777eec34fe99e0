//! The ground that a test plays on.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nexus_host::{
    resource::{Ground, Resource, Standing},
    storage::DISK,
};
use nexus_model::{Id, InstanceId, ResourceKind};

/// Ten times what was ever seen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A Nexus' folders below `root`, claimed.
pub(crate) fn ground(root: &Path) -> Ground {
    let ground = Ground {
        instance: InstanceId::random().unwrap(),
        state: root.join("state"),
        files: vec![root.join("state/nexus.db")],
        roots: ["data", "run", "state"].map(|name| root.join(name)).into(),
        runtimes: root.join("run/vm"),
        consoles: root.join("state/vm"),
        workspaces: root.join("data/workspaces"),
        images: root.join("data/images"),
        assets: root.join("data/assets"),
        devices: PathBuf::from("/nonexistent"),
    };
    ground.claim().unwrap();
    for folder in [&ground.runtimes, &ground.consoles, &ground.workspaces, &ground.images, &ground.assets] {
        fs::create_dir_all(folder).unwrap();
    }
    ground
}

/// Makes a folder with these files in it.
pub(crate) fn folder(path: &Path, files: &[&str]) -> PathBuf {
    fs::create_dir_all(path).unwrap();
    for file in files {
        fs::write(path.join(file), "x").unwrap();
    }
    path.to_owned()
}

/// A folder named by a new id.
pub(crate) fn by_id(parent: &Path, files: &[&str]) -> PathBuf {
    folder(&parent.join(Id::random().unwrap().to_string()), files)
}

/// The marks in a folder of whoever uses it.
pub(crate) fn marks(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(".instance-"));
    found
}

pub(crate) fn workspace(ground: &Ground, name: &str) -> PathBuf {
    folder(&ground.workspaces.join(format!("@{name}")), &[DISK])
}

/// What is listed: kind, path and standing of each.
pub(crate) fn listed(ground: &Ground) -> Vec<(ResourceKind, String, Standing)> {
    let row = |found: Resource| (found.kind, found.place.to_string(), found.standing);
    ground.resources(&[]).unwrap().into_iter().map(row).collect()
}

/// The one thing there is at a path.
pub(crate) fn at(ground: &Ground, path: &Path) -> Option<Resource> {
    let mut found = ground.resources(&[]).unwrap();
    found.retain(|found| found.place.to_string() == path.display().to_string());
    assert!(found.len() <= 1, "{found:?}");
    found.pop()
}

/// The same, once it is listed.
pub(crate) fn soon_at(ground: &Ground, path: &Path) -> Resource {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = at(ground, path) {
            return found;
        }
        assert!(Instant::now() < end, "{} is not listed", path.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn doubt(found: &Resource) -> &str {
    match &found.standing {
        Standing::Doubtful(why) => why,
        other => panic!("{} is {other:?}", found.place),
    }
}
