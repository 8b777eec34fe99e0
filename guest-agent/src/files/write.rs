//! Writing a file, whole or not at all.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

use nexus_archive::{Place, Root, Temporary};
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, openat, statat},
    io::Errno,
};

use super::{FileError, is_absolute};
use crate::exec::Account;

/// What a new file may be used for unless that is given.
const USUAL_MODE: u32 = 0o644;

/// How a file is to be written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Write<'a> {
    /// Its permissions; those of the file that is there unless given, or 644.
    pub(crate) mode: Option<u32>,
    /// Name or number of its user; that of the file that is there unless given, or root.
    pub(crate) owner: Option<&'a str>,
    /// Add to the end of what is there; this is not whole or not at all.
    pub(crate) append: bool,
    /// Make the folders that are missing.
    pub(crate) folders: bool,
}

/// Writes a file, and says whether there was none before. A link at the end of the path is replaced.
pub(crate) fn write(root: &Root, path: &str, content: &[u8], how: Write<'_>) -> Result<bool, FileError> {
    is_absolute(path)?;
    let failed = FileError::system("write", path);
    let owner = match how.owner {
        Some(user) => {
            let account = Account::find(user).ok_or_else(|| FileError::Owner(user.to_owned()))?;
            Some((Uid::from_raw(account.uid), Gid::from_raw(account.gid)))
        }
        None => None,
    };
    let mode = how.mode.map(|mode| Mode::from_raw_mode(mode & 0o7777));
    let place = root.place(Path::new(path), how.folders).map_err(&failed)?;
    let before = look(&place).map_err(&failed)?;
    match before.as_ref().map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        None | Some(FileType::RegularFile) => {}
        Some(FileType::Symlink) if !how.append => {}
        Some(FileType::Directory) => return Err(FileError::Folder(path.to_owned())),
        Some(_) => return Err(FileError::Special(path.to_owned())),
    }
    let new = New { mode, owner, before: before.as_ref() };
    if how.append {
        add(&place, content, &new).map_err(&failed)?;
    } else {
        replace(&place, content, &new).map_err(&failed)?;
    }
    Ok(before.is_none())
}

/// What a file is to be besides its content.
struct New<'a> {
    mode: Option<Mode>,
    owner: Option<(Uid, Gid)>,
    before: Option<&'a Stat>,
}

/// What is there already.
fn look(place: &Place) -> io::Result<Option<Stat>> {
    match statat(&place.folder, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn add(place: &Place, content: &[u8], new: &New<'_>) -> io::Result<()> {
    // Neither a link nor a pipe that has taken the file's place since.
    let how = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&place.folder, &place.name, how, Mode::from_raw_mode(USUAL_MODE))?;
    if let Some((user, group)) = new.owner {
        fchown(&file, Some(user), Some(group))?;
    }
    // One that is made here has the mode that it is to have, whatever the umask.
    if let Some(mode) = new.mode.or(new.before.is_none().then_some(Mode::from_raw_mode(USUAL_MODE))) {
        fchmod(&file, mode)?;
    }
    let mut file = File::from(file);
    file.write_all(content)?;
    file.sync_all()
}

/// Writes beside it and puts that into its place.
fn replace(place: &Place, content: &[u8], new: &New<'_>) -> io::Result<()> {
    let temporary = Temporary::file(place)?;
    fill(temporary.opened(), content, new)?;
    temporary.take_place(place)
}

fn fill(mut file: &File, content: &[u8], new: &New<'_>) -> io::Result<()> {
    let before = new.before.filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    file.write_all(content)?;
    let as_before = before.map(|stat| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)));
    if let Some((user, group)) = new.owner.or(as_before) {
        // Only root may give files away; anybody else's are its own anyway.
        let owned = fchown(file, Some(user), Some(group));
        if owned.is_err() && rustix::process::geteuid().is_root() {
            owned?;
        }
    }
    let usual = before.map_or(Mode::from_raw_mode(USUAL_MODE), |stat| Mode::from_raw_mode(stat.st_mode));
    // After content and owner: a change of either may take set-user-ID away.
    fchmod(file, new.mode.unwrap_or(usual))?;
    file.sync_all()
}
