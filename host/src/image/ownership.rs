//! Who owns what in an image, although it does not on the host.

use std::{collections::HashMap, fmt::Write as _, fs, io, os::unix::fs::MetadataExt, path::Path};

/// Owner, type and mode of one file as the guest shall see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// `S_IFMT` and permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Device number, for devices.
    pub(super) device: u64,
}

/// What `fakeroot` is to make programs see: on the host, all of it are private files of the user. A device is an empty
/// file there, and nothing is ever set-user-id.
#[derive(Debug, Default)]
pub(super) struct Ownership(HashMap<(u64, u64), Owner>);

impl Ownership {
    /// Remembers the owner of the file at `path`, in place of what was remembered of that file.
    pub(super) fn record(&mut self, path: &Path, owner: Owner) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        self.0.insert((metadata.dev(), metadata.ino()), owner);
        Ok(())
    }

    /// As the file that `fakeroot -i` loads: `data_save` and `data_load` in `faked.c`.
    pub(super) fn to_faked(&self) -> String {
        let mut text = String::new();
        for ((device, inode), owner) in &self.0 {
            let Owner { mode, uid, gid, device: rdev } = owner;
            // To write to a string can't fail.
            let _ = writeln!(text, "dev={device:x},ino={inode},mode={mode:o},uid={uid},gid={gid},nlink=1,rdev={rdev}");
        }
        text
    }
}
