//! Removing trees.

use std::{
    ffi::{CStr, OsStr},
    io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
};

use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags, chmodat, openat, unlinkat},
    io::Errno,
};

/// Removes a file, or a folder with everything in it, if it is there. What takes its place meanwhile is not followed.
///
/// # Errors
/// When something of it can't be removed.
pub fn remove(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let open = || openat(&folder, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let inside = match open() {
        Err(Errno::ACCESS) => {
            chmodat(&folder, name, Mode::RWXU, AtFlags::empty())?;
            open()?
        }
        opened => opened?,
    };
    for name in names(&inside)? {
        let name = OsStr::from_bytes(name.to_bytes());
        match remove(&inside, name) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                // Nothing goes out of a folder that must not be written.
                rustix::fs::fchmod(&inside, Mode::RWXU)?;
                remove(&inside, name)?;
            }
            removed => removed?,
        }
    }
    Ok(unlinkat(&folder, name, AtFlags::REMOVEDIR)?)
}

/// What a folder holds.
pub(crate) fn names(folder: impl AsFd) -> io::Result<Vec<std::ffi::CString>> {
    let is_real = |name: &CStr| name != c"." && name != c"..";
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if is_real(entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}
