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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_a_vmm_left_is_removed_and_its_links_are_not_followed() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let kept = elsewhere.path().join("kept");
        fs::write(&kept, "kept").unwrap();
        symlink(&kept, dir.path().join("qemu.conf")).unwrap();
        symlink(elsewhere.path(), dir.path().join("folder")).unwrap();
        fs::create_dir_all(dir.path().join("deep/er")).unwrap();
        symlink(elsewhere.path(), dir.path().join("deep/er/link")).unwrap();
        clear(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
    }

    #[test]
    fn a_file_is_its_owners_and_replaces_a_link() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (file, kept) = (dir.path().join("qemu.conf"), elsewhere.path().join("kept"));
        fs::write(&kept, "kept").unwrap();
        symlink(&kept, &file).unwrap();
        write(&file, "secret").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "secret");
        assert_eq!(fs::symlink_metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
    }

    #[test]
    fn a_socket_s_path_has_to_fit_an_address() {
        let path = |length: usize| Path::new("/").join("x".repeat(length - 1));
        assert!(check_socket(&path(107)).is_ok());
        assert!(check_socket(&path(108)).is_err());
    }
}
