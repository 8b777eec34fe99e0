//! The parts of a real guest.

use std::{
    env,
    path::{Path, PathBuf},
};

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
    /// When they are not there but must be (`NEXUS_REQUIRE_VMS=1`).
    #[must_use]
    #[expect(clippy::print_stderr, reason = "a test that can't run says why")]
    pub fn find() -> Option<Self> {
        let folder = Self::folder();
        let parts =
            Self { kernel: folder.join("vmlinuz"), initrd: folder.join("initrd.img"), rootfs: folder.join("rootfs") };
        if [&parts.kernel, &parts.initrd, &parts.rootfs].iter().all(|part| part.exists()) {
            return Some(parts);
        }
        assert!(!everything_is_required(), "{} has no guest: run `make guest`", folder.display());
        eprintln!("not run: {} has no guest (make guest puts one there)", folder.display());
        None
    }
}

/// Whether a test that can't run must fail: `NEXUS_REQUIRE_VMS=1`, as in `make test`.
#[must_use]
pub fn everything_is_required() -> bool {
    env::var_os("NEXUS_REQUIRE_VMS").is_some_and(|value| value == "1")
}
