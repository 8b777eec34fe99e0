//! Files that a VM is given when it is made.

use std::{collections::HashMap, fmt, fs::File, io::Read};

use nexus_model::vm::VmFile;
use nexus_protocol::octal_mode;
use zbus::Variant;

/// A file of the host's for the guest.
#[derive(Clone)]
pub(crate) struct GivenFile {
    path: String,
    content: Vec<u8>,
    mode: Option<u32>,
    owner: Option<String>,
}

impl GivenFile {
    /// `GUEST=HOST[:MODE[:OWNER]]`, with what HOST holds now.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (path, rest) = text.split_once('=').ok_or("write it as GUEST=HOST, with :MODE and :OWNER if need be")?;
        let mut parts = rest.splitn(3, ':');
        let host = parts.next().unwrap_or_default();
        let mode = match parts.next() {
            Some(mode) => {
                Some(octal_mode(mode).ok_or_else(|| format!("`{mode}` is no mode: up to four octal digits"))?)
            }
            None => None,
        };
        Ok(Self { path: path.to_owned(), content: read(host)?, mode, owner: parts.next().map(str::to_owned) })
    }

    /// As one of the option `files` of `CreateVm`.
    pub(super) fn option(&self) -> (&str, HashMap<&str, Variant<'_>>) {
        let mut about = HashMap::from([("content", Variant::from(self.content.clone()))]);
        if let Some(mode) = self.mode {
            about.insert("mode", mode.into());
        }
        if let Some(owner) = &self.owner {
            about.insert("owner", owner.as_str().into());
        }
        (&self.path, about)
    }
}

/// What it holds may be a secret.
impl fmt::Debug for GivenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GivenFile({})", self.path)
    }
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("cannot read {path}: {error}");
    let mut content = Vec::new();
    let limit = u64::try_from(VmFile::MAX_BYTES).unwrap_or(u64::MAX);
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut content)).map_err(unreadable)?;
    if content.len() > VmFile::MAX_BYTES {
        return Err(format!("{path} is larger than {} KiB: copy it with nexusctl cp", VmFile::MAX_BYTES >> 10));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_with_what_is_said_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join("token");
        std::fs::write(&host, "hunter2").unwrap();
        let host = host.to_str().unwrap();
        let file = GivenFile::parse(&format!("/etc/token={host}:600:daemon")).unwrap();
        assert_eq!((file.path.as_str(), file.content.as_slice()), ("/etc/token", &b"hunter2"[..]));
        assert_eq!((file.mode, file.owner.as_deref()), (Some(0o600), Some("daemon")));
        assert!(!format!("{file:?}").contains("hunter2"));
        let file = GivenFile::parse(&format!("/etc/token={host}")).unwrap();
        assert_eq!((file.mode, file.owner), (None, None));
        for wrong in ["/etc/token", "/etc/token=/no/such/file", &format!("/a={host}:rwx"), &format!("/a={host}:10000")]
        {
            assert!(GivenFile::parse(wrong).is_err(), "{wrong}");
        }
        std::fs::write(host, vec![0; VmFile::MAX_BYTES + 1]).unwrap();
        assert!(GivenFile::parse(&format!("/a={host}")).unwrap_err().contains("nexusctl cp"));
    }
}
