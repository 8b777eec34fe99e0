//! `file_write`.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nexus_model::Id;
use rmcp::schemars::JsonSchema;
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, openat, renameat, statat, unlinkat},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{Encoding, Reply, failed, is_absolute};
use crate::root::{Place, Root};

/// What a new file may be used for unless that is given.
const USUAL_MODE: u32 = 0o644;

/// What to write.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub(in crate::mcp) struct FileWrite {
    /// Absolute path.
    path: String,
    /// What it is to hold.
    content: String,
    /// How content is written; utf-8 unless given.
    #[serde(default)]
    encoding: Encoding,
    /// Permissions in octal digits, as for chmod; those of the file that is there unless given, or 644.
    #[serde(default)]
    mode: Option<String>,
    /// Add to the end of what is there instead; this is not whole or not at all.
    #[serde(default)]
    append: bool,
    /// Make the folders that are missing.
    #[serde(default)]
    create_folders: bool,
}

/// What was written.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(in crate::mcp) struct Written {
    /// The path.
    path: String,
    /// How much was written, in bytes.
    bytes: u64,
    /// Whether there was no such file before.
    created: bool,
}

impl FileWrite {
    pub(super) fn run(self, root: &Root) -> Result<Reply, String> {
        let Self { path, content, encoding, mode, append, create_folders } = self;
        is_absolute(&path)?;
        let content = match encoding {
            Encoding::Utf8 => content.into_bytes(),
            Encoding::Base64 => {
                STANDARD.decode(content).map_err(|error| format!("the content is no base64: {error}"))?
            }
        };
        let mode = mode.as_deref().map(permissions).transpose()?;
        let failed = failed("write", &path);
        let place = root.place(Path::new(&path), create_folders).map_err(&failed)?;
        let before = look(&place).map_err(&failed)?;
        match before.as_ref().map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            None | Some(FileType::RegularFile) => {}
            Some(FileType::Symlink) if !append => {}
            Some(FileType::Directory) => return Err(format!("`{path}` is a folder")),
            Some(_) => return Err(format!("`{path}` is no file that could be written: use run_command")),
        }
        if append {
            add(&place, &content, mode).map_err(&failed)?;
        } else {
            replace(&place, &content, mode, before.as_ref()).map_err(&failed)?;
        }
        let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let text = format!("Wrote {bytes} bytes to {path}.");
        Ok(Reply::new(vec![text], &Written { path, bytes, created: before.is_none() }))
    }
}

fn permissions(text: &str) -> Result<Mode, String> {
    let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777);
    bits.map(Mode::from_raw_mode).ok_or_else(|| format!("`{text}` is no mode: give up to four octal digits"))
}

/// What is there already.
fn look(place: &Place) -> io::Result<Option<Stat>> {
    match statat(&place.folder, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn add(place: &Place, content: &[u8], mode: Option<Mode>) -> io::Result<()> {
    // Neither a link nor a pipe that has taken the file's place since.
    let how = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&place.folder, &place.name, how, Mode::from_raw_mode(USUAL_MODE))?;
    if let Some(mode) = mode {
        fchmod(&file, mode)?;
    }
    let mut file = File::from(file);
    file.write_all(content)?;
    file.sync_all()
}

/// Writes beside it and puts that into its place.
fn replace(place: &Place, content: &[u8], mode: Option<Mode>, before: Option<&Stat>) -> io::Result<()> {
    let id = Id::random().map_err(io::Error::other)?;
    let temporary = OsString::from(format!(".nexus-{id}"));
    let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = File::from(openat(&place.folder, &temporary, how, Mode::RUSR | Mode::WUSR)?);
    let written = fill(file, content, mode, before)
        .and_then(|()| Ok(renameat(&place.folder, &temporary, &place.folder, &place.name)?));
    if written.is_err() {
        // Why it failed matters more.
        let _ = unlinkat(&place.folder, &temporary, AtFlags::empty());
    }
    written
}

fn fill(mut file: File, content: &[u8], mode: Option<Mode>, before: Option<&Stat>) -> io::Result<()> {
    let before = before.filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    if let Some(stat) = before {
        // Only root may give files away; anybody else's are its own anyway.
        let owned = fchown(&file, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
        if owned.is_err() && rustix::process::geteuid().is_root() {
            owned?;
        }
    }
    let usual = before.map_or(Mode::from_raw_mode(USUAL_MODE), |stat| Mode::from_raw_mode(stat.st_mode));
    // After the owner: a change of that takes set-user-ID away.
    fchmod(&file, mode.unwrap_or(usual))?;
    file.write_all(content)?;
    file.sync_all()
}
