use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use super::VmmError;

/// The longest path of a socket that a program binds: `sun_path` holds 108 bytes with the final NUL, `unix(7)`.
const MAX_SOCKET_PATH: usize = 107;

/// Removes what an earlier run, whose VMM could write there, left in the folder. Links are removed, never followed.
pub(super) fn clear(dir: &Path) -> Result<(), VmmError> {
    let failed = |path: &Path, source| VmmError::File { action: "clear", path: path.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(|source| failed(dir, source))? {
        let entry = entry.map_err(|source| failed(dir, source))?;
        let path = entry.path();
        let is_dir = entry.file_type().map_err(|source| failed(&path, source))?.is_dir();
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|source| failed(&path, source))?;
    }
    Ok(())
}

/// Writes a file that only its owner can read, whole or not at all.
pub(super) fn write(path: &Path, content: &str) -> Result<(), VmmError> {
    let write = || -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(content.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| VmmError::File { action: "write", path: path.to_owned(), source })
}

/// Checks that a program can bind a socket at `path`.
pub(super) fn check_socket(path: &Path) -> Result<(), VmmError> {
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return Ok(());
    }
    Err(VmmError::File {
        action: "make a socket at",
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidFilename, "the path is longer than 107 bytes"),
    })
}
