//! From where to where.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{self, Path, PathBuf},
};

use nexus_archive::{Place, Root, Target};

/// One of the two that a copy is between.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Side {
    Host(PathBuf),
    Guest {
        vm: String,
        path: String,
    },
    /// Standard input or output.
    Pipe,
}

impl Side {
    /// As docker does: what has a colon and does not begin as a path is in a VM. A path there begins with a slash,
    /// said or not.
    pub(super) fn parse(text: &str) -> Self {
        match text.split_once(':') {
            _ if text == "-" => Self::Pipe,
            Some((vm, path)) if !vm.is_empty() && !vm.contains('/') && !text.starts_with('.') => {
                let slash = if path.starts_with('/') { "" } else { "/" };
                Self::Guest { vm: vm.to_owned(), path: format!("{slash}{path}") }
            }
            _ => Self::Host(PathBuf::from(text)),
        }
    }
}

/// What of the host is copied.
#[derive(Debug)]
pub(super) struct Source {
    /// Where it is.
    pub(super) place: Place,
    /// For whoever walks through it.
    pub(super) path: PathBuf,
    is_content: bool,
}

impl Source {
    pub(super) fn find(given: &Path) -> Result<Self, String> {
        let is_content = is_content(given);
        let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", given.display());
        let path = if is_content { fs::canonicalize(given) } else { path::absolute(given) }.map_err(unreadable)?;
        fs::symlink_metadata(&path).map_err(unreadable)?;
        let place = Root::open(Path::new("/")).and_then(|root| root.place(&path, false)).map_err(unreadable)?;
        Ok(Self { place, path, is_content })
    }

    /// What it is called where a folder is to hold it; none if that is to become what it is.
    pub(super) fn name(&self) -> Option<&OsStr> {
        (!self.is_content).then_some(self.place.name.as_os_str())
    }
}

/// Where on the host the guest's files from `source` are to be.
pub(super) fn target(given: &Path, source: &str, replace: bool) -> Result<Target, String> {
    let unwritable = |error: std::io::Error| format!("cannot write {}: {error}", given.display());
    let source = Path::new(source);
    let name: Option<OsString> = match source.file_name() {
        Some(name) if !is_content(source) => Some(name.to_owned()),
        Some(_) => None,
        None => return Err("what is to be copied has no name".to_owned()),
    };
    let mut path = path::absolute(given).map_err(unwritable)?;
    if given.as_os_str().as_encoded_bytes().ends_with(b"/") {
        // Only a folder may be there.
        path.push("");
    }
    let root = Root::open(Path::new("/")).map_err(unwritable)?;
    Target::find(&root, &path, name.as_deref(), replace).map_err(|error| error.said())
}

fn is_content(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.ends_with(b"/.") || bytes == b"." || bytes == b".." || bytes.ends_with(b"/..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_tells_a_vm_from_a_path() {
        let guest = |vm: &str, path: &str| Side::Guest { vm: vm.to_owned(), path: path.to_owned() };
        assert_eq!(Side::parse("web:/etc/hosts"), guest("web", "/etc/hosts"));
        assert_eq!(Side::parse("web:srv/a:b"), guest("web", "/srv/a:b"));
        assert_eq!(Side::parse("web:"), guest("web", "/"));
        for path in ["file", "./web:file", "../web:file", "/srv/web:file", "a/b:c", ":file"] {
            assert_eq!(Side::parse(path), Side::Host(PathBuf::from(path)), "{path}");
        }
        assert_eq!(Side::parse("-"), Side::Pipe);
    }
}
