//! The keys by which a viewer leaves a terminal.

use std::str::FromStr;

/// Keys to be typed one after the other; none, when they are turned off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// Nothing that is typed means anything to nexusctl.
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }
}

impl FromStr for DetachKeys {
    type Err = String;

    /// As docker writes them: `ctrl-p,ctrl-q`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::none());
        }
        text.split(',').map(key).collect::<Option<_>>().map(Self).ok_or_else(|| {
            "write keys as ctrl-a to ctrl-z, ctrl-@, ctrl-[, ctrl-\\, ctrl-], ctrl-^, ctrl-_ or one character each, with \
             commas between them, or none"
                .to_owned()
        })
    }
}

fn key(text: &str) -> Option<u8> {
    let only = |text: &str| text.as_bytes().first().copied().filter(|byte| text.len() == 1 && byte.is_ascii_graphic());
    match text.strip_prefix("ctrl-") {
        Some(letter) => only(letter).map(|byte| byte.to_ascii_uppercase()).filter(|byte| (b'@'..=b'_').contains(byte)),
        None => return only(text),
    }
    .map(|byte| byte & 0x1f)
}

/// Looks for the keys in what is typed.
#[derive(Debug)]
pub(super) struct Typed {
    keys: Vec<u8>,
    /// How many of them were typed last, and are held back.
    held: usize,
}

impl Typed {
    pub(super) fn new(keys: DetachKeys) -> Self {
        Self { keys: keys.0, held: 0 }
    }

    /// What of it is for the guest; none once the keys were typed. The first of them typed twice is typed once.
    pub(super) fn filter(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        let mut passed = Vec::with_capacity(typed.len() + self.held);
        for &byte in typed {
            if self.keys.get(self.held) == Some(&byte) {
                self.held += 1;
                if self.held == self.keys.len() {
                    return None;
                }
                continue;
            }
            let twice = self.held == 1 && self.keys.first() == Some(&byte);
            passed.extend_from_slice(self.keys.get(..self.held).unwrap_or_default());
            self.held = 0;
            if twice {
                continue;
            }
            if self.keys.first() == Some(&byte) {
                self.held = 1;
            } else {
                passed.push(byte);
            }
        }
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_writes_them() {
        let keys = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.0);
        assert_eq!(keys("ctrl-],d"), Ok(vec![0x1d, b'd']));
        assert_eq!(keys("ctrl-p,ctrl-Q"), Ok(vec![0x10, 0x11]));
        assert_eq!(keys("none"), Ok(Vec::new()));
        for wrong in ["", "ctrl-", "ctrl-é", "ctrl-1", "ab", "ctrl-p,", "ä", "shift-a"] {
            assert!(keys(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_the_keys_are_held_back() {
        let filter = |pieces: &[&[u8]]| {
            let mut typed = Typed::new("ctrl-],d".parse().unwrap());
            let mut passed = Vec::new();
            for piece in pieces {
                passed.extend(typed.filter(piece)?);
            }
            Some(passed)
        };
        assert_eq!(filter(&[b"ls\r"]), Some(b"ls\r".to_vec()));
        assert_eq!(filter(&[b"\x1dd"]), None);
        assert_eq!(filter(&[b"a\x1d", b"d"]), None);
        assert_eq!(filter(&[b"\x1d", b"x"]), Some(b"\x1dx".to_vec()));
        assert_eq!(filter(&[b"\x1d\x1d", b"d"]), Some(b"\x1dd".to_vec()));
        let mut none = Typed::new("none".parse().unwrap());
        assert_eq!(none.filter(b"\x1dd"), Some(b"\x1dd".to_vec()));
        let mut longer = Typed::new("a,a,b".parse().unwrap());
        assert_eq!(longer.filter(b"aab"), None);
    }
}
