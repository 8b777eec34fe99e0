//! An archive of a root file system, and how it has to look as a disk.

use std::path::Path;

use crate::ground::{assert_clean, debugfs, inode};

/// An archive of what root file systems have, devices and owners included.
pub(crate) fn archive() -> tar::Builder<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "./", tar::EntryType::Directory, 0o755, (0, 0), b"");
    append(&mut archive, "./etc/os-release", tar::EntryType::Regular, 0o644, (0, 0), b"NAME=Archived\n");
    append(&mut archive, "./usr/bin/su", tar::EntryType::Regular, 0o4755, (0, 0), b"#!");
    append(&mut archive, "./locked", tar::EntryType::Directory, 0o500, (1000, 1000), b"");
    append(&mut archive, "./locked/secret", tar::EntryType::Regular, 0o000, (1000, 100), b"secret\n");
    append(&mut archive, "./run/pipe", tar::EntryType::Fifo, 0o620, (5, 5), b"");
    for (name, kind, major, minor) in
        [("./dev/null", tar::EntryType::Char, 1, 3), ("./dev/vda", tar::EntryType::Block, 254, 300)]
    {
        let mut header = header(name, kind, 0o660, (0, 6), 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        archive.append(&header, &b""[..]).unwrap();
    }
    let mut link = header("./usr/bin/sudo", tar::EntryType::Link, 0o644, (0, 0), 0);
    link.set_link_name_literal("./usr/bin/su").unwrap();
    link.set_cksum();
    archive.append(&link, &b""[..]).unwrap();
    let mut link = header("./tmp", tar::EntryType::Symlink, 0o777, (0, 0), 0);
    link.set_link_name_literal("/var/../var/tmp").unwrap();
    link.set_cksum();
    archive.append(&link, &b""[..]).unwrap();
    let mut long = header("x", tar::EntryType::Regular, 0o644, (70_000, 3_000_000), 4);
    archive.append_data(&mut long, format!("./srv/{}", "n".repeat(200)), &b"long"[..]).unwrap();
    append(&mut archive, "./etc/os-release", tar::EntryType::Regular, 0o600, (7, 7), b"NAME=Later\n");
    append(&mut archive, "./srv/holes", tar::EntryType::Regular, 0o644, (0, 0), &vec![0; 3 << 20]);
    archive
}

pub(crate) fn header(name: &str, kind: tar::EntryType, mode: u32, owner: (u64, u64), size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    // As it is, however bad a name it may be.
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.0);
    header.set_gid(owner.1);
    header.set_mtime(1_000_000_000);
    header.set_size(size as u64);
    header.set_cksum();
    header
}

pub(crate) fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    name: &str,
    kind: tar::EntryType,
    mode: u32,
    owner: (u64, u64),
    content: &[u8],
) {
    archive.append(&header(name, kind, mode, owner, content.len()), content).unwrap();
}

pub(crate) fn assert_archived(disk: &Path) {
    assert_clean(disk);
    assert_eq!(debugfs(disk, "cat /etc/os-release"), "NAME=Later\n");
    assert_eq!(debugfs(disk, "cat /locked/secret"), "secret\n");
    for (path, expected) in [
        ("/etc", &["Type: directory", "Mode: 0755", "User: 0 Group: 0"][..]),
        ("/etc/os-release", &["Type: regular", "Mode: 0600", "User: 7 Group: 7", "mtime: 0x3b9aca00"]),
        ("/usr/bin/su", &["Type: regular", "Mode: 04755", "User: 0 Group: 0", "Links: 2"]),
        ("/usr/bin/sudo", &["Mode: 04755", "Links: 2"]),
        ("/locked", &["Type: directory", "Mode: 0500", "User: 1000 Group: 1000", "mtime: 0x3b9aca00"]),
        ("/locked/secret", &["Mode: 0000", "User: 1000 Group: 100"]),
        ("/run/pipe", &["Type: FIFO", "Mode: 0620", "User: 5 Group: 5"]),
        ("/dev/null", &["Type: character special", "Mode: 0660", "Group: 6", "01:03"]),
        ("/dev/vda", &["Type: block special", "254:300"]),
        ("/tmp", &["Type: symlink", "Fast link dest: \"/var/../var/tmp\""]),
        ("/srv/holes", &["Size: 3145728", "Blockcount: 0"]),
    ] {
        let inode = inode(disk, path);
        for expected in expected {
            assert!(inode.contains(expected), "{path} is not {expected}: {inode}");
        }
    }
    assert!(inode(disk, &format!("/srv/{}", "n".repeat(200))).contains("User: 70000 Group: 3000000"));
}
