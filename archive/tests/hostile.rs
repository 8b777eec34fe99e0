//! Archives that no honest one packs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::{self, File},
    io::{self, Read},
    os::fd::AsFd,
    path::Path,
};

use nexus_archive::{ArchiveError, Limits, Unpacker};
use proptest::{collection::vec, prelude::*};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

const LIMITS: Limits = Limits { entries: 1000, bytes: 1 << 20, length: 1 << 30 };

/// Unpacks it in a folder of a folder, and sees that nothing else is touched.
fn unpack(archive: impl Read) -> Result<(), ArchiveError> {
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let inside = outside.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let unpacked = Unpacker::new(File::open(&inside).unwrap().as_fd(), LIMITS).unpack(archive).map(|_| ());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "secret");
    unpacked
}

fn entry(archive: &mut Builder<Vec<u8>>, kind: EntryType, name: &[u8], link: &[u8], content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o777);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name);
    gnu.linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    archive.append(&header, content).unwrap();
}

/// Kind, name and what it links to.
type Entries<'a> = &'a [(EntryType, &'a [u8], &'a [u8])];

fn archive(entries: Entries<'_>) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (kind, name, link) in entries {
        entry(&mut archive, *kind, name, link, b"");
    }
    archive.into_inner().unwrap()
}

#[test]
fn nothing_is_unpacked_anywhere_else() {
    use EntryType::{Block, Char, Directory, GNUSparse, Link, Regular, Symlink};
    let cases: &[Entries<'_>] = &[
        &[(Regular, b"../evil", b"")],
        &[(Regular, b"/tmp/evil", b"")],
        &[(Regular, b".", b"")],
        &[(Directory, b"./", b"")],
        &[(Directory, b"top", b""), (Regular, b"top/../../evil", b"")],
        &[(Symlink, b"top", b".."), (Regular, b"top/evil", b"")],
        &[(Directory, b"top", b""), (Symlink, b"top/up", b"../.."), (Regular, b"top/up/evil", b"")],
        &[(Directory, b"top", b""), (Symlink, b"top/up", b"../.."), (Link, b"top/taken", b"top/up/secret")],
        &[(Directory, b"top", b""), (Symlink, b"top/a", b"../../secret"), (Regular, b"top/a", b"")],
        &[(Directory, b"top", b""), (Symlink, b"top/a", b"../.."), (Directory, b"top/a", b"")],
        &[(Link, b"top", b"../secret")],
        &[(Link, b"top", b"/etc/passwd")],
        &[(Link, b"top", b"top")],
        &[(Directory, b"top", b""), (Link, b"top/folder", b"top")],
        &[(Char, b"top", b"")],
        &[(GNUSparse, b"top", b"")],
        &[(Block, b"top", b"")],
        &[(Regular, b"top", b""), (Regular, b"top", b"")],
        &[(Regular, b"top", b""), (Regular, b"other", b"")],
        &[(Regular, b"top", b""), (Regular, b"top/below", b"")],
        &[(Regular, b"no/folder", b"")],
        &[(Directory, b"top", b""), (Directory, b"top/a", b""), (Regular, b"top/b", b""), (Regular, b"top/a/c", b"")],
        &[(Symlink, b"top", b"")],
        &[],
    ];
    for entries in cases {
        let names: Vec<_> = entries.iter().map(|(kind, name, _)| (kind, String::from_utf8_lossy(name))).collect();
        assert!(unpack(archive(entries).as_slice()).is_err(), "{names:?}");
    }
    // What shows that the rest was refused for what it is.
    unpack(archive(&[(Directory, b"top", b""), (Symlink, b"top/up", b"../.."), (Regular, b"top/a", b"")]).as_slice())
        .unwrap();
}

#[test]
fn a_map_of_holes_that_lies_is_refused() {
    for (real_size, map) in [
        ("10", "1\n0\n11\n"),
        ("10", "2\n5\n1\n0\n1\n"),
        ("10", "99999999999\n"),
        ("18446744073709551615", "1\n0\n1\n"),
        ("9223372036854775807", "1\n0\n1\n"),
        ("10", "1\n18446744073709551615\n2\n"),
        ("10", "x"),
        ("10", ""),
        ("-1", "0\n"),
        ("10", "1\n0\n1\n"),
    ] {
        let mut archive = Builder::new(Vec::new());
        let marks = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", real_size)];
        archive.append_pax_extensions(marks.map(|(key, value)| (key, value.as_bytes()))).unwrap();
        let mut content = map.as_bytes().to_vec();
        content.resize(512, 0);
        // More than the last one's map says.
        content.extend_from_slice(b"ab");
        entry(&mut archive, EntryType::Regular, b"top", b"", &content);
        let archive = archive.into_inner().unwrap();
        assert!(unpack(archive.as_slice()).is_err(), "{real_size} {map:?}");
    }
}

/// GNU tar's older formats say where the holes are in the header, and in more of them: nobody here packs them.
#[test]
fn holes_that_are_in_a_header_are_refused() {
    for (real_size, pieces, is_extended) in [
        (10, &[(0, 2)][..], false),
        (1 << 40, &[((1 << 40) - 2, 2)], false),
        (10, &[(8, u64::MAX >> 3)], false),
        (10, &[(0, 2)], true),
        (2, &[], false),
    ] {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_path("top").unwrap();
        header.set_mode(0o600);
        header.set_mtime(0);
        header.set_size(2);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(real_size);
        gnu.set_is_extended(is_extended);
        for (place, (offset, length)) in gnu.sparse.iter_mut().zip(pieces) {
            place.set_offset(*offset);
            place.set_length(*length);
        }
        header.set_cksum();
        let mut archive = Builder::new(Vec::new());
        archive.append(&header, &b"ab"[..]).unwrap();
        let refused = unpack(archive.into_inner().unwrap().as_slice());
        assert!(refused.is_err(), "{real_size} {pieces:?}");
    }
}

#[test]
fn what_goes_on_and_on_is_ended() {
    let endless_name = archive(&[(EntryType::GNULongName, b"././@LongLink", b"")]);
    let mut header = Header::from_byte_slice(&endless_name[..512]).clone();
    header.set_size(1 << 40);
    header.set_cksum();
    assert!(unpack(header.as_bytes().chain(io::repeat(b'a'))).is_err());
    assert!(unpack(archive(&[(EntryType::Regular, b"top", b"")]).chain(io::repeat(0))).is_err());
    let mut header = Header::new_gnu();
    header.set_path("top").unwrap();
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_size(1 << 40);
    header.set_cksum();
    assert!(unpack(header.as_bytes().chain(io::repeat(b'a'))).is_err());
    assert!(unpack(header.as_bytes().chain(io::repeat(0))).is_err());
}

/// Archives as they are made, and with some bytes changed.
fn any_archive() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        Just(EntryType::Regular),
        Just(EntryType::Directory),
        Just(EntryType::Symlink),
        Just(EntryType::Link),
        Just(EntryType::Fifo),
        Just(EntryType::GNUSparse),
    ];
    let name = prop_oneof!["(top|a|b|\\.\\.|/|\\.){1}(/(top|a|b|\\.\\.)){0,4}", "top(/(a|b)){0,3}"];
    let link = "(top|a|\\.\\.|/){1}(/(a|b|\\.\\.)){0,3}";
    let entries = vec((kind, name, link, vec(any::<u8>(), 0..600)), 1..12);
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (entries, changes).prop_map(|(entries, changes)| {
        let mut archive = Builder::new(Vec::new());
        entry(&mut archive, EntryType::Directory, b"top", b"", b"");
        for (kind, name, link, content) in entries {
            entry(&mut archive, kind, name.as_bytes(), link.as_bytes(), &content);
        }
        let mut bytes = archive.into_inner().unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn nothing_makes_it_panic_or_reach_out(archive in any_archive()) {
        let _ = unpack(archive.as_slice());
    }
}

#[test]
fn an_entry_is_named_without_what_a_terminal_would_obey() {
    let error = unpack(archive(&[(EntryType::Char, b"top\x1b]0;x\x07", b"")]).as_slice()).unwrap_err();
    assert!(!error.said().chars().any(char::is_control), "{error}");
    assert!(!Path::new("/tmp/evil").exists());
}
