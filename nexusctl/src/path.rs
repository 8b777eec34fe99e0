//! Paths that the caller typed.

use std::path::{self, Path};

use crate::failure::{Exit, Failure};

/// The path as the daemon has to have it, whose working folder is another one: absolute, and as text, since D-Bus has no
/// other. Links and dots are the daemon's to resolve.
pub(crate) fn absolute(path: &Path) -> Result<String, Failure> {
    let cannot = || Failure::new(format!("cannot use the path {}", path.display())).exit(Exit::USAGE);
    let absolute =
        path::absolute(path).map_err(|error| cannot().because(crate::output::sentence(&error.to_string())))?;
    absolute.into_os_string().into_string().map_err(|_| cannot().because("It is not UTF-8, so D-Bus can't carry it."))
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use super::*;

    #[test]
    fn relative_paths_start_here() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new("a/b")).unwrap(), here.join("a/b").to_str().unwrap());
        assert_eq!(absolute(Path::new("/a//b/")).unwrap(), "/a/b/");
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert_eq!(absolute(Path::new(OsStr::from_bytes(b"\xff"))).unwrap_err().code(), Exit::USAGE);
        assert_eq!(absolute(Path::new("")).unwrap_err().code(), Exit::USAGE);
    }
}
