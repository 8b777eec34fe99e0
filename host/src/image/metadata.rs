//! What an image says of itself: `/etc/os-release` and `/etc/nexus/image.yaml` in it.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use ext4_view::{Ext4, Ext4Error, Ext4Read};
use nexus_model::steers_display;

use super::ImageError;

/// What a kernel, or an initrd, starts unless `init=` says otherwise.
const INIT: &str = "/sbin/init";
/// The longest file that is read; real ones have a few hundred bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// The most entries of `image.yaml`, as the guest agent has it.
const MAX_ENTRIES: usize = nexus_protocol::Welcome::MAX_METADATA;
/// The longest name or value that goes on to users.
const MAX_TEXT_CHARS: usize = 1024;
/// What aliases in `image.yaml` can stand for, all together.
const MAX_REPLAYED_EVENTS: usize = 4096;
/// What a hostile file system can make the decoder read, and for how long.
const MAX_READ_BYTES: u64 = 256 << 20;
const MAX_READ_TIME: Duration = Duration::from_secs(10);

/// What an image says of itself, printable and bounded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) os_name: Option<String>,
    pub(super) os_version: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    /// Whether it has what is started first, as far as that can be said.
    pub(super) has_init: Option<bool>,
}

/// Reads it from the ext4 file system in `disk`, which came from `source`. A file system that the decoder does not
/// understand says nothing of itself.
pub(super) fn read(disk: File, source: &Path) -> Result<Description, ImageError> {
    let reader = Bounded { disk, bytes_left: MAX_READ_BYTES, deadline: Instant::now() + MAX_READ_TIME };
    let file_system = match Ext4::load(Box::new(reader)) {
        Ok(file_system) => file_system,
        Err(error @ Ext4Error::Corrupt(_)) => {
            let error = io::Error::new(io::ErrorKind::InvalidData, error.to_string());
            return Err(ImageError::Damaged { path: source.to_owned(), source: error });
        }
        Err(error) => {
            tracing::warn!(image = %source.display(), %error, "cannot read what the image says of itself");
            return Ok(Description::default());
        }
    };
    // A link is enough: what it stands for is looked up in the guest.
    let has_init = match file_system.symlink_metadata(INIT) {
        Ok(_) => Some(true),
        Err(Ext4Error::NotFound | Ext4Error::NotADirectory) => Some(false),
        Err(_) => None,
    };
    let mut description = Description { has_init, ..Description::default() };
    let os_release =
        ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| file(&file_system, path, source));
    if let Some(text) = os_release {
        description.os_name = os_release_value(&text, "NAME");
        description.os_version = os_release_value(&text, "VERSION_ID").or_else(|| os_release_value(&text, "VERSION"));
    }
    if let Some(text) = file(&file_system, "/etc/nexus/image.yaml", source) {
        description.metadata =
            image_yaml(&text).map_err(|reason| ImageError::Metadata { path: source.to_owned(), reason })?;
    }
    Ok(description)
}

fn file(file_system: &Ext4, path: &str, source: &Path) -> Option<String> {
    let read = file_system.metadata(path).and_then(|metadata| {
        if metadata.file_type().is_regular_file() && metadata.len() <= MAX_FILE_BYTES {
            file_system.read(path)
        } else {
            Err(Ext4Error::FileTooLarge)
        }
    });
    match read {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(Ext4Error::NotFound | Ext4Error::NotADirectory) => None,
        Err(error) => {
            tracing::warn!(image = %source.display(), path, %error, "not read");
            None
        }
    }
}

/// `os-release(5)`: assignments as a shell reads them. Quotes and backslashes are understood, expansion there is none.
fn os_release_value(text: &str, name: &str) -> Option<String> {
    let value = text.lines().filter_map(|line| line.trim().split_once('=')).rfind(|(key, _)| *key == name)?.1;
    let quote = value.chars().next().filter(|first| matches!(first, '"' | '\''));
    let mut unquoted = String::new();
    let mut chars = value.chars().skip(usize::from(quote.is_some()));
    while let Some(char) = chars.next() {
        match char {
            _ if Some(char) == quote => break,
            '\\' if quote != Some('\'') => unquoted.extend(chars.next()),
            _ => unquoted.push(char),
        }
    }
    Some(printable(&unquoted)).filter(|value| !value.is_empty())
}

/// A map of names to scalars; what is deeper is kept as JSON.
fn image_yaml(text: &str) -> Result<BTreeMap<String, String>, String> {
    let options = serde_saphyr::options! {
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED_EVENTS },
    };
    let map: BTreeMap<String, serde_json::Value> = match serde_saphyr::from_str_with_options(text, options) {
        Ok(map) => map,
        Err(_) if text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#')) => BTreeMap::new(),
        Err(error) => return Err(printable(&error.to_string())),
    };
    if map.len() > MAX_ENTRIES {
        return Err(format!("it has more than {MAX_ENTRIES} entries"));
    }
    Ok(map
        .into_iter()
        .map(|(name, value)| match value {
            serde_json::Value::String(text) => (printable(&name), printable(&text)),
            serde_json::Value::Null => (printable(&name), String::new()),
            other => (printable(&name), printable(&other.to_string())),
        })
        .collect())
}

fn printable(text: &str) -> String {
    text.chars().map(|char| if steers_display(char) { ' ' } else { char }).take(MAX_TEXT_CHARS).collect()
}

/// Reads at most so much, for at most so long.
struct Bounded {
    disk: File,
    bytes_left: u64,
    deadline: Instant,
}

impl Ext4Read for Bounded {
    fn read(&mut self, start: u64, bytes: &mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.bytes_left = self.bytes_left.checked_sub(bytes.len() as u64).ok_or("it makes one read without end")?;
        if Instant::now() > self.deadline {
            return Err("it takes too long to read".into());
        }
        Ok(self.disk.read_exact_at(bytes, start)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read_as_a_shell_would() {
        let text = "# c\nNAME=\"Debian GNU/Linux\"\nVERSION_ID='12'\nID=debian\nX=a\\ b\nEMPTY=\n";
        assert_eq!(os_release_value(text, "NAME").as_deref(), Some("Debian GNU/Linux"));
        assert_eq!(os_release_value(text, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(os_release_value(text, "ID").as_deref(), Some("debian"));
        assert_eq!(os_release_value(text, "X").as_deref(), Some("a b"));
        assert_eq!(os_release_value(text, "EMPTY"), None);
        assert_eq!(os_release_value(text, "ABSENT"), None);
        assert_eq!(os_release_value("NAME=\"\x1b[31mred\"", "NAME").as_deref(), Some(" [31mred"));
    }

    #[test]
    fn image_yaml_is_flat_and_bounded() {
        let map = image_yaml("name: demo\nversion: 3\nready: true\nports: [1, 2]\nnothing: null\n").unwrap();
        let expected = [("name", "demo"), ("nothing", ""), ("ports", "[1,2]"), ("ready", "true"), ("version", "3")];
        assert_eq!(map.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
        assert_eq!(image_yaml("# nothing\n").unwrap(), BTreeMap::new());
        assert!(image_yaml("- a\n- b\n").is_err());
        assert!(image_yaml("a: [").is_err());
        let many: String = (0..=MAX_ENTRIES).map(|n| format!("k{n}: v\n")).collect();
        assert!(image_yaml(&many).is_err());
    }

    #[test]
    fn aliases_that_multiply_are_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let previous = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![previous; 10].join(", "));
        }
        assert!(image_yaml(&bomb).is_err());
    }
}
