//! The parts of a real guest.

use std::path::{Path, PathBuf};

use crate::not_run;

/// What `make guest` leaves in `build/guest`.
pub struct GuestParts {
    /// A bzImage.
    pub kernel: PathBuf,
    /// An initrd with what that kernel needs to find its root.
    pub initrd: PathBuf,
    /// A folder with a root file system whose init is the guest agent.
    pub rootfs: PathBuf,
}

impl GuestParts {
    /// Where they are.
    #[must_use]
    pub fn folder() -> PathBuf {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository");
        repository.join("build/guest")
    }

    /// The parts; none, with the reason printed, when they are not there.
    ///
    /// # Panics
    /// When they are not there but must be (`NEXUS_REQUIRE_ALL=1`).
    #[must_use]
    pub fn find() -> Option<Self> {
        Self::find_of("rootfs")
    }

    /// The same with another root file system of `build/guest`.
    ///
    /// # Panics
    /// As [`find`](Self::find).
    #[must_use]
    pub fn find_of(rootfs: &str) -> Option<Self> {
        let folder = Self::folder();
        let parts =
            Self { kernel: folder.join("vmlinuz"), initrd: folder.join("initrd.img"), rootfs: folder.join(rootfs) };
        if [&parts.kernel, &parts.initrd, &parts.rootfs].iter().all(|part| part.exists()) {
            return Some(parts);
        }
        not_run(&format!(
            "{} has no guest `{rootfs}`: run `make guest`, or `tools/guest` as make test does",
            folder.display()
        ));
        None
    }

    /// The parts with a root file system of Debian's programs, as `tools/guest` makes it for `make test`.
    ///
    /// # Panics
    /// As [`find`](Self::find).
    #[must_use]
    pub fn debian() -> Option<Self> {
        let rootfs = Self::folder().join("debian");
        if !rootfs.exists() {
            not_run(&format!("{} is not there: run `tools/guest AGENT test`", rootfs.display()));
            return None;
        }
        Some(Self { rootfs, ..Self::find()? })
    }
}
