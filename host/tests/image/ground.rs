//! What the tests import into, small sources to import, and a look into the disks that come of them.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use nexus_host::{
    image::{self, ImageError, ImportRequest, ImportedImage},
    storage::{self, DISK, Progress, WorkspaceBackend},
};
use nexus_model::BackendKind;
use tempfile::TempDir;

use crate::scratch::names;

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn copy_backend(root: &Path) -> Arc<dyn WorkspaceBackend> {
    storage::detect(root, Some(BackendKind::Copy)).unwrap()
}

pub(crate) fn request(source: &Path) -> ImportRequest {
    ImportRequest { source: source.to_owned(), size_bytes: None }
}

/// A request for a disk that is quickly hashed.
pub(crate) fn small(source: &Path) -> ImportRequest {
    ImportRequest { source: source.to_owned(), size_bytes: Some(64 * MIB) }
}

/// A folder for images, its backend, and an import into it.
pub(crate) struct Ground {
    folder: TempDir,
    pub(crate) backend: Arc<dyn WorkspaceBackend>,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = copy_backend(&folder.path().join("data"));
        fs::create_dir(folder.path().join("data/images")).unwrap();
        Self { folder, backend }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.path().join("data/images")
    }

    pub(crate) fn import(&self, request: &ImportRequest) -> Result<ImportedImage, ImageError> {
        image::import(self.backend.as_ref(), request, &self.images().join("base"), &Progress::default())
    }

    /// An import that must fail, and leave nothing.
    pub(crate) fn refuses(&self, request: &ImportRequest) -> ImageError {
        let error = self.import(request).expect_err("it was imported");
        assert_eq!(names(&self.images()), [""; 0], "left after: {error}");
        error
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.images().join("base").join(DISK)
    }
}

/// A small root file system as a folder, with what such folders have.
pub(crate) fn root_folder(parent: &Path) -> PathBuf {
    let root = parent.join("root");
    for folder in ["etc/nexus", "usr/lib", "usr/bin", "home/user", "empty"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("usr/lib/os-release"), "NAME=\"Test Linux\"\nVERSION_ID=7.1\n").unwrap();
    symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    fs::write(root.join("etc/nexus/image.yaml"), "name: test\nrevision: 4\n").unwrap();
    fs::write(root.join("usr/bin/tool"), vec![0xA5; 300_000]).unwrap();
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/alias")).unwrap();
    fs::write(root.join("home/user/file with space"), "content\n").unwrap();
    fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(root.join("home/user"), fs::Permissions::from_mode(0o700)).unwrap();
    root
}

/// What debugfs says to one request about a disk.
pub(crate) fn debugfs(disk: &Path, request: &str) -> String {
    let output = Command::new("/usr/sbin/debugfs").args(["-R", request]).arg(disk).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Inode of a path in a disk, as debugfs shows it, with single spaces.
pub(crate) fn inode(disk: &Path, path: &str) -> String {
    debugfs(disk, &format!("stat \"{path}\"")).split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn assert_clean(disk: &Path) {
    let output = Command::new("/usr/sbin/e2fsck").args(["-fn"]).arg(disk).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

pub(crate) fn assert_root_folder(disk: &Path) {
    assert_clean(disk);
    assert_eq!(debugfs(disk, "cat \"/home/user/file with space\""), "content\n");
    let tool = inode(disk, "/usr/bin/tool");
    assert!(tool.contains("Mode: 04755") && tool.contains("Links: 2") && tool.contains("Size: 300000"), "{tool}");
    assert!(inode(disk, "/home/user").contains("Mode: 0700"));
    assert!(inode(disk, "/bin").contains("Fast link dest: \"usr/bin\""));
    assert!(inode(disk, "/empty").contains("Type: directory"));
    for path in ["/", "/etc", "/bin", "/usr/bin/tool"] {
        assert!(inode(disk, path).contains("User: 0 Group: 0"), "{path}: {}", inode(disk, path));
    }
}
