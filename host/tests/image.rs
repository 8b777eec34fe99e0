//! Imports of disks, folders and archives, with the programs and file systems that users have.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test says why it fails or is skipped")]

mod scratch;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nexus_host::{
    image::{self, HEADROOM_BYTES, ImageError, ImportRequest, ImportedImage},
    storage::{self, DISK, Progress, StorageError, WorkspaceBackend},
};
use nexus_model::{BackendKind, ErrorKind};
use nix::{sys::stat::Mode, unistd::geteuid};
use scratch::{LoopFs, NOBODY, as_nobody, mode, names, not_run};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

fn copy_backend(root: &Path) -> Arc<dyn WorkspaceBackend> {
    storage::detect(root, Some(BackendKind::Copy)).unwrap()
}

fn request(source: &Path) -> ImportRequest {
    ImportRequest { source: source.to_owned(), size_bytes: None }
}

/// A request for a disk that is quickly hashed.
fn small(source: &Path) -> ImportRequest {
    ImportRequest { source: source.to_owned(), size_bytes: Some(64 * MIB) }
}

/// A folder for images, its backend, and an import into it.
struct Ground {
    folder: TempDir,
    backend: Arc<dyn WorkspaceBackend>,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = copy_backend(&folder.path().join("data"));
        fs::create_dir(folder.path().join("data/images")).unwrap();
        Self { folder, backend }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn images(&self) -> PathBuf {
        self.path().join("data/images")
    }

    fn import(&self, request: &ImportRequest) -> Result<ImportedImage, ImageError> {
        image::import(self.backend.as_ref(), request, &self.images().join("base"), &Progress::default())
    }

    /// An import that must fail, and leave nothing.
    fn refuses(&self, request: &ImportRequest) -> ImageError {
        let error = self.import(request).expect_err("it was imported");
        assert_eq!(names(&self.images()), [""; 0], "left after: {error}");
        error
    }

    fn disk(&self) -> PathBuf {
        self.images().join("base").join(DISK)
    }
}

/// A small root file system as a folder, with what such folders have.
fn root_folder(parent: &Path) -> PathBuf {
    let root = parent.join("root");
    for folder in ["etc/nexus", "usr/lib", "usr/bin", "home/user", "empty"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("usr/lib/os-release"), "NAME=\"Test Linux\"\nVERSION_ID=7.1\n").unwrap();
    symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    fs::write(root.join("etc/nexus/image.yaml"), "name: test\nrevision: 4\n").unwrap();
    fs::write(root.join("usr/bin/tool"), vec![0xA5; 300_000]).unwrap();
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/alias")).unwrap();
    fs::write(root.join("home/user/file with space"), "content\n").unwrap();
    fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(root.join("home/user"), fs::Permissions::from_mode(0o700)).unwrap();
    root
}

/// What debugfs says to one request about a disk.
fn debugfs(disk: &Path, request: &str) -> String {
    let output = Command::new("/usr/sbin/debugfs").args(["-R", request]).arg(disk).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Inode of a path in a disk, as debugfs shows it, with single spaces.
fn inode(disk: &Path, path: &str) -> String {
    debugfs(disk, &format!("stat \"{path}\"")).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn assert_clean(disk: &Path) {
    let output = Command::new("/usr/sbin/e2fsck").args(["-fn"]).arg(disk).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn assert_root_folder(disk: &Path) {
    assert_clean(disk);
    assert_eq!(debugfs(disk, "cat \"/home/user/file with space\""), "content\n");
    let tool = inode(disk, "/usr/bin/tool");
    assert!(tool.contains("Mode: 04755") && tool.contains("Links: 2") && tool.contains("Size: 300000"), "{tool}");
    assert!(inode(disk, "/home/user").contains("Mode: 0700"));
    assert!(inode(disk, "/bin").contains("Fast link dest: \"usr/bin\""));
    assert!(inode(disk, "/empty").contains("Type: directory"));
    for path in ["/", "/etc", "/bin", "/usr/bin/tool"] {
        assert!(inode(disk, path).contains("User: 0 Group: 0"), "{path}: {}", inode(disk, path));
    }
}

#[test]
fn a_folder_becomes_a_clean_disk_with_room_to_work_in() {
    let ground = Ground::new();
    let root = root_folder(ground.path());
    if geteuid().is_root() {
        chown(root.join("home/user/file with space"), Some(1000), Some(1001)).unwrap();
    }
    let imported = ground.import(&request(&root)).unwrap();
    assert_eq!(imported.os_name.as_deref(), Some("Test Linux"));
    assert_eq!(imported.os_version.as_deref(), Some("7.1"));
    assert_eq!(imported.metadata, [("name", "test"), ("revision", "4")].map(|(a, b)| (a.into(), b.into())).into());
    assert_eq!(names(&ground.images()), ["base"]);
    let disk = ground.disk();
    assert_eq!(fs::metadata(&disk).unwrap().len(), imported.size_bytes);
    assert!(imported.size_bytes >= HEADROOM_BYTES);
    // Nothing was written just to be zero.
    assert!(fs::metadata(&disk).unwrap().blocks() * 512 < 4 * MIB, "{}", fs::metadata(&disk).unwrap().blocks() * 512);
    assert_root_folder(&disk);
    if geteuid().is_root() {
        assert!(inode(&disk, "/home/user/file with space").contains("User: 1000 Group: 1001"));
    }
    let statistics = debugfs(&disk, "stats -h");
    assert!(statistics.contains("Filesystem volume name:   nexus\n"), "{statistics}");
    assert!(!statistics.contains("orphan_file") && !statistics.contains("metadata_csum_seed"), "{statistics}");
    let free_blocks: u64 =
        statistics.lines().find_map(|line| line.strip_prefix("Free blocks:")).unwrap().trim().parse().unwrap();
    assert!(free_blocks * 4096 >= HEADROOM_BYTES, "{free_blocks}");
    image::verify(&ground.images().join("base"), &imported.digest, &Progress::default()).unwrap();
}

#[test]
fn an_ordinary_users_folder_belongs_to_root_in_the_image() {
    if !geteuid().is_root() {
        return not_run("only root can become an ordinary user");
    }
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    as_nobody(|| {
        // The name is one that a shell would take apart.
        let odd = folder.path().join("a b'$(touch x)`;&");
        fs::create_dir(&odd).unwrap();
        let root = root_folder(&odd);
        let backend = copy_backend(&odd.join("data"));
        let image = odd.join("data/images/base");
        let imported = image::import(backend.as_ref(), &small(&root), &image, &Progress::default()).unwrap();
        assert_eq!(imported.size_bytes, 64 * MIB);
        assert_root_folder(&image.join(DISK));
        assert_eq!(names(&odd.join("data/images")), ["base"]);
        assert_eq!(names(&odd), ["data", "root"]);
    });
}

#[test]
fn an_ext4_file_is_copied_as_it_is() {
    let ground = Ground::new();
    let first = ground.import(&small(&root_folder(ground.path()))).unwrap();
    let source = ground.path().join("disk.img");
    fs::copy(ground.disk(), &source).unwrap();
    ground.backend.remove(&ground.images().join("base")).unwrap();
    let progress = Progress::default();
    let imported =
        image::import(ground.backend.as_ref(), &request(&source), &ground.images().join("base"), &progress).unwrap();
    assert_eq!(imported, first);
    assert_eq!((progress.completed(), progress.total()), (128 * MIB, 128 * MIB));
    assert_eq!((mode(&ground.images().join("base")), mode(&ground.disk())), (0o500, 0o400));
    assert_root_folder(&ground.disk());

    // It can't be made another size; the right one may be said.
    ground.backend.remove(&ground.images().join("base")).unwrap();
    let sized = |size_bytes| ImportRequest { source: source.clone(), size_bytes: Some(size_bytes) };
    assert!(
        matches!(ground.refuses(&sized(65 * MIB)), ImageError::SizeIsFixed { size_bytes, .. } if size_bytes == 64 * MIB)
    );
    ground.import(&sized(64 * MIB)).unwrap();

    // A changed master is seen.
    fs::set_permissions(ground.disk(), fs::Permissions::from_mode(0o600)).unwrap();
    File::options().write(true).open(ground.disk()).unwrap().write_all_at(b"!", 50 * MIB).unwrap();
    let error = image::verify(&ground.images().join("base"), &first.digest, &Progress::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IntegrityFailed, "{error}");
}

#[test]
fn what_an_image_says_of_itself_stays_inside_of_it() {
    let ground = Ground::new();
    let root = ground.path().join("root");
    fs::create_dir_all(root.join("etc/nexus")).unwrap();
    // Absolute, so that the host's would be read by who follows it on the host; and in a circle.
    symlink("/etc/hostname", root.join("etc/os-release")).unwrap();
    symlink("image.yaml", root.join("etc/nexus/image.yaml")).unwrap();
    let imported = ground.import(&small(&root)).unwrap();
    assert_eq!((imported.os_name, imported.os_version, imported.metadata.len()), (None, None, 0));
    ground.backend.remove(&ground.images().join("base")).unwrap();

    fs::remove_file(root.join("etc/nexus/image.yaml")).unwrap();
    fs::write(root.join("etc/nexus/image.yaml"), "just words").unwrap();
    let error = ground.refuses(&small(&root));
    assert!(matches!(error, ImageError::Metadata { .. }), "{error}");
    fs::write(root.join("etc/nexus/image.yaml"), vec![b' '; 1 << 20]).unwrap();
    assert!(ground.import(&small(&root)).unwrap().metadata.is_empty());
}

/// An archive of what root file systems have, devices and owners included.
fn archive() -> tar::Builder<Vec<u8>> {
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

fn header(name: &str, kind: tar::EntryType, mode: u32, owner: (u64, u64), size: usize) -> tar::Header {
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

fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    name: &str,
    kind: tar::EntryType,
    mode: u32,
    owner: (u64, u64),
    content: &[u8],
) {
    archive.append(&header(name, kind, mode, owner, content.len()), content).unwrap();
}

fn assert_archived(disk: &Path) {
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

#[test]
fn archives_keep_owners_modes_and_devices_for_an_ordinary_user() {
    if !geteuid().is_root() {
        return not_run("only root can become an ordinary user");
    }
    let plain = archive().into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let archives = [
        ("tar", plain.clone()),
        ("tar.gz", gzip.finish().unwrap()),
        ("tar.zst", zstd::encode_all(plain.as_slice(), 1).unwrap()),
        ("tar.xz", xz.finish().unwrap()),
    ];
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    as_nobody(|| {
        let odd = folder.path().join("a b'$(touch x)`;&");
        let backend = copy_backend(&odd);
        for (name, bytes) in &archives {
            let source = odd.join(name);
            fs::write(&source, bytes).unwrap();
            let progress = Progress::default();
            let image = odd.join("image");
            let imported = image::import(backend.as_ref(), &small(&source), &image, &progress).unwrap();
            assert_eq!(imported.os_name.as_deref(), Some("Later"));
            assert_eq!(progress.completed(), progress.total(), "{name}");
            assert_archived(&image.join(DISK));
            backend.remove(&image).unwrap();
            fs::remove_file(&source).unwrap();
            assert_eq!(names(&odd), [""; 0]);
        }
    });
}

#[test]
fn an_archive_is_the_same_for_root() {
    let ground = Ground::new();
    let source = ground.path().join("root.tar");
    fs::write(&source, archive().into_inner().unwrap()).unwrap();
    ground.import(&small(&source)).unwrap();
    assert_archived(&ground.disk());
}

#[test]
fn hostile_archives_reach_nothing_outside() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let ground = Ground::new();
    let victim = ground.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "whole").unwrap();
    let outside = victim.to_str().unwrap();
    let far_up = format!("{}{outside}", "../".repeat(12));
    let link = |archive: &mut tar::Builder<Vec<u8>>, kind, name: &str, target: &str| {
        let mut header = header(name, kind, 0o777, (0, 0), 0);
        header.set_link_name_literal(target).unwrap();
        header.set_cksum();
        archive.append(&header, &b""[..]).unwrap();
    };
    type Attack<'a> = Box<dyn Fn(&mut tar::Builder<Vec<u8>>) + 'a>;
    let attacks: Vec<(&str, Attack<'_>)> = vec![
        ("absolute", Box::new(|a| append(a, &format!("{outside}/new"), Regular, 0o644, (0, 0), b"x"))),
        ("goes up", Box::new(|a| append(a, "a/../../new", Regular, 0o644, (0, 0), b"x"))),
        (
            "no folder",
            Box::new(|a| {
                link(a, Symlink, "way", outside);
                append(a, "way/new", Regular, 0o644, (0, 0), b"x");
            }),
        ),
        (
            "in place of something else",
            Box::new(|a| {
                link(a, Symlink, "way", &far_up);
                append(a, "way", Directory, 0o755, (0, 0), b"");
                append(a, "way/new", Regular, 0o644, (0, 0), b"x");
            }),
        ),
        ("links to an absolute name", Box::new(|a| link(a, Link, "hard", &format!("{outside}/file")))),
        ("links up with", Box::new(|a| link(a, Link, "hard", &format!("{far_up}/file")))),
        (
            "not before it",
            Box::new(|a| {
                link(a, Symlink, "way", outside);
                link(a, Link, "hard", "way/file");
            }),
        ),
        ("not before it", Box::new(|a| link(a, Link, "hard", "absent"))),
        ("to nowhere", Box::new(|a| append(a, "soft", Symlink, 0o777, (0, 0), b""))),
        (
            "place of a folder",
            Box::new(|a| {
                append(a, "x", Directory, 0o755, (0, 0), b"");
                append(a, "x", Regular, 0o755, (0, 0), b"x");
            }),
        ),
        ("the root is no folder", Box::new(|a| link(a, Symlink, ".", outside))),
        ("no root file system has", Box::new(|a| append(a, "x", tar::EntryType::new(b'V'), 0o755, (0, 0), b""))),
        ("no number that Linux has", Box::new(|a| append(a, "x", Regular, 0o755, (1 << 40, 0), b""))),
        (
            "lies too deep",
            Box::new(|a| {
                a.append_data(&mut header("x", Regular, 0o644, (0, 0), 0), "d/".repeat(200) + "f", &b""[..]).unwrap()
            }),
        ),
    ];
    let source = ground.path().join("root.tar");
    for (reason, attack) in attacks {
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, "etc/hostname", Regular, 0o644, (0, 0), b"x");
        attack(&mut archive);
        fs::write(&source, archive.into_inner().unwrap()).unwrap();
        let error = ground.refuses(&small(&source));
        assert!(matches!(error, ImageError::Entry { .. }) && error.to_string().contains(reason), "{reason}: {error}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgs);
        assert_eq!(names(&victim), ["file"], "{reason}");
        let metadata = fs::metadata(victim.join("file")).unwrap();
        assert_eq!((fs::read_to_string(victim.join("file")).unwrap().as_str(), metadata.nlink()), ("whole", 1));
    }
    // A link that is written through is replaced instead.
    let mut archive = tar::Builder::new(Vec::new());
    link(&mut archive, Symlink, "way", &format!("{outside}/file"));
    append(&mut archive, "way", Regular, 0o644, (0, 0), b"inside");
    fs::write(&source, archive.into_inner().unwrap()).unwrap();
    ground.import(&small(&source)).unwrap();
    assert_eq!(fs::read_to_string(victim.join("file")).unwrap(), "whole");
    assert_eq!(debugfs(&ground.disk(), "cat /way"), "inside");
}

#[test]
fn archives_that_are_damaged_or_swell_are_refused() {
    let ground = Ground::new();
    let source = ground.path().join("root.tar");
    let mut whole = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    whole.write_all(&archive().into_inner().unwrap()).unwrap();
    let whole = whole.finish().unwrap();
    fs::write(&source, &whole[..whole.len() / 2]).unwrap();
    let error = ground.refuses(&small(&source));
    assert!(matches!(error, ImageError::Archive { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::IntegrityFailed);

    // A name of 64 MiB, in 64 KiB.
    let mut bomb = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let length = 64 * MIB as usize;
    bomb.append(
        &header("././@LongLink", tar::EntryType::GNULongName, 0o644, (0, 0), length),
        std::io::repeat(b'n').take(length as u64),
    )
    .unwrap();
    fs::write(&source, bomb.into_inner().unwrap().finish().unwrap()).unwrap();
    let error = ground.refuses(&small(&source));
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("content of no file"), "{error:?}");

    // More content than the image that was asked for holds.
    let mut large = tar::Builder::new(Vec::new());
    append(&mut large, "large", tar::EntryType::Regular, 0o644, (0, 0), &vec![1; 70 * MIB as usize]);
    fs::write(&source, large.into_inner().unwrap()).unwrap();
    let error = ground.refuses(&small(&source));
    assert!(matches!(error, ImageError::TooSmall { needed_bytes, .. } if needed_bytes > 70 * MIB), "{error}");
}

#[test]
fn a_size_that_does_not_hold_the_content_is_refused() {
    let ground = Ground::new();
    let root = root_folder(ground.path());
    fs::write(root.join("large"), vec![1; 30 * MIB as usize]).unwrap();
    for size in [0, MIB, 31 * MIB, 33 * MIB] {
        let error = ground.refuses(&ImportRequest { source: root.clone(), size_bytes: Some(size) });
        let ImageError::TooSmall { needed_bytes, .. } = error else { panic!("{size}: {error}") };
        assert!(needed_bytes > 36 * MIB);
    }
    let needed = ImportRequest { source: root.clone(), size_bytes: Some(74 * MIB) };
    ground.import(&needed).unwrap();
    assert_clean(&ground.disk());
}

#[test]
fn other_things_are_named_and_refused_with_advice() {
    let ground = Ground::new();
    let source = ground.path().join("thing");
    let at = |offset: usize, bytes: &[u8]| {
        let mut content = vec![0_u8; 128 << 10];
        content[offset..offset + bytes.len()].copy_from_slice(bytes);
        content
    };
    for (content, looks_like, advice) in [
        (vec![], "an empty file", "use a raw ext4 file"),
        (at(0, b"QFI\xfb"), "a qcow2 disk", "qemu-img convert"),
        (at(0, b"KDMV"), "a VMDK disk", "qemu-img convert"),
        (at(0x8001, b"CD001"), "an ISO 9660 image", "extract"),
        (at(512, b"EFI PART"), "a disk with a GUID partition table", "fdisk -l"),
        (at(510, b"\x55\xaa"), "a disk with a partition table", "fdisk -l"),
        (at(0, b"hsqs"), "a squashfs file system", "unsquashfs"),
        (at(0x10040, b"_BHRfS_M"), "a btrfs file system", "import its folder"),
        (at(0, b"\x1f\x8b\x08\0"), "a gzip file of something that is no tar archive", "decompress"),
        (at(0, b"\x28\xb5\x2f\xfd"), "a compressed file of something that is no tar archive", "decompress"),
        (at(0, b"\x7fELF"), "an ELF program", "use a raw ext4 file"),
        (vec![0; 1 << 20], "a file of zeros", "mkfs.ext4"),
        (b"hello\n".to_vec(), "nothing that is known here", "use a raw ext4 file"),
    ] {
        fs::write(&source, content).unwrap();
        let error = ground.refuses(&request(&source));
        let text = error.to_string();
        assert!(text.contains(&format!("it looks like {looks_like}; ")) && text.contains(advice), "{text}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgs);
    }
    fs::remove_file(&source).unwrap();
    assert_eq!(ground.refuses(&request(&source)).kind(), ErrorKind::NotFound);
    nix::unistd::mkfifo(&source, Mode::S_IRWXU).unwrap();
    assert!(matches!(ground.refuses(&request(&source)), ImageError::NotAFile(_)));
    assert!(matches!(ground.refuses(&request(ground.path())), ImageError::HoldsDestination(_)));
}

#[test]
fn ext4_files_that_are_damaged_or_in_use_are_refused() {
    let ground = Ground::new();
    ground.import(&small(&root_folder(ground.path()))).unwrap();
    let whole = fs::read(ground.disk()).unwrap();
    ground.backend.remove(&ground.images().join("base")).unwrap();
    let source = ground.path().join("disk.img");
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut content = whole.clone();
        change(&mut content);
        fs::write(&source, content).unwrap();
        ground.refuses(&request(&source))
    };
    let superblock = 1024;
    assert!(matches!(
        broken(&|disk| disk.truncate(63 * MIB as usize)),
        ImageError::Truncated { expected_bytes, actual_bytes, .. } if (expected_bytes, actual_bytes) == (64 * MIB, 63 * MIB)
    ));
    assert!(matches!(broken(&|disk| disk.truncate(1100)), ImageError::Source { .. }));
    assert!(matches!(broken(&|disk| disk[superblock + 0x3A] = 0), ImageError::Unclean(_)));
    assert!(matches!(broken(&|disk| disk[superblock + 0x60] |= 4), ImageError::Unclean(_)));
    assert!(matches!(broken(&|disk| disk[superblock + 0x3A] = 3), ImageError::Damaged { .. }));
    assert!(matches!(broken(&|disk| disk[superblock + 0x18] = 40), ImageError::Damaged { .. }));
    assert!(matches!(broken(&|disk| disk[superblock + 0x20..][..4].fill(0)), ImageError::Damaged { .. }));
    assert!(matches!(
        broken(&|disk| disk[superblock + 0x150..][..4].fill(0xff)),
        ImageError::Truncated { .. } | ImageError::Damaged { .. }
    ));
    assert!(matches!(broken(&|disk| disk[superblock + 0x60] |= 8), ImageError::NotExt4 { .. }));
    // A checksum that is none any more.
    assert!(matches!(broken(&|disk| disk[superblock + 0x78] ^= 1), ImageError::Damaged { .. }));
}

#[test]
fn a_mounted_file_system_is_refused_until_it_is_unmounted() {
    let Some(namespace) = LoopFs::new("ext4", 16) else { return };
    let ground = Ground::new();
    ground.import(&small(&root_folder(ground.path()))).unwrap();
    let source = ground.path().join("disk.img");
    fs::copy(ground.disk(), &source).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o600)).unwrap();
    ground.backend.remove(&ground.images().join("base")).unwrap();
    // In this thread's own mount namespace.
    let place = namespace.path().join("mount");
    fs::create_dir(&place).unwrap();
    assert!(Command::new("mount").args(["-o", "loop"]).args([&source, &place]).status().unwrap().success());
    fs::write(place.join("news"), "from the guest\n").unwrap();
    nix::unistd::sync();
    let error = ground.refuses(&request(&source));
    assert!(matches!(error, ImageError::Unclean(_)), "{error}");
    assert!(Command::new("umount").arg(&place).status().unwrap().success());
    ground.import(&request(&source)).unwrap();
    assert_eq!(debugfs(&ground.disk(), "cat /news"), "from the guest\n");
}

#[test]
fn no_damage_makes_the_import_panic_or_hang() {
    let ground = Ground::new();
    ground.import(&ImportRequest { size_bytes: Some(16 * MIB), ..small(&root_folder(ground.path())) }).unwrap();
    let whole = fs::read(ground.disk()).unwrap();
    ground.backend.remove(&ground.images().join("base")).unwrap();
    let source = ground.path().join("disk.img");
    let used: Vec<usize> =
        (0..whole.len()).step_by(4096).filter(|at| whole[*at..*at + 4096].iter().any(|byte| *byte != 0)).collect();
    let mut random = fastrand::Rng::with_seed(0x0ef5_3000);
    let started = Instant::now();
    for _ in 0..40 {
        let mut content = whole.clone();
        for _ in 0..random.usize(1..=64) {
            let at = used[random.usize(..used.len())] + random.usize(..4096);
            content[at] = random.u8(..);
        }
        fs::write(&source, content).unwrap();
        match ground.import(&request(&source)) {
            Ok(_) => ground.backend.remove(&ground.images().join("base")).unwrap(),
            Err(_) => assert_eq!(names(&ground.images()), [""; 0]),
        }
    }
    assert!(started.elapsed() < Duration::from_secs(120));
}

#[test]
fn a_missing_tool_is_named_with_its_package() {
    let Some(_namespace) = LoopFs::new("ext4", 16) else { return };
    let ground = Ground::new();
    let root = root_folder(ground.path());
    let tar = ground.path().join("root.tar");
    fs::write(&tar, archive().into_inner().unwrap()).unwrap();
    // In this thread's own mount namespace.
    for (tool, package, source) in [("/usr/bin/fakeroot", "fakeroot", &tar), ("/usr/sbin/mke2fs", "e2fsprogs", &root)] {
        let hidden = Command::new("mount").args(["--bind", "/dev/null", tool]).status().unwrap();
        assert!(hidden.success());
        let error = ground.refuses(&small(source));
        assert_eq!(error.kind(), ErrorKind::HostUnsupported);
        assert!(error.to_string().ends_with(&format!("install the package {package}")), "{error}");
    }
}

#[test]
fn a_full_disk_leaves_nothing_of_an_import() {
    let Some(ext4) = LoopFs::new("ext4", 64) else { return };
    let ground = Ground::new();
    let root = root_folder(ground.path());
    // Nothing that could be left out as a hole.
    fs::write(root.join("large"), vec![1; 80 * MIB as usize]).unwrap();
    let tar = ground.path().join("root.tar");
    assert!(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status().unwrap().success());
    ground.import(&request(&root)).unwrap();
    let disk = ground.disk();

    let backend = copy_backend(&ext4.path().join("data"));
    let image = ext4.path().join("data/images/base");
    for source in [&root, &tar, &disk] {
        let free = backend.free_bytes().unwrap();
        let error = image::import(backend.as_ref(), &request(source), &image, &Progress::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourcesExhausted, "{}: {error:?}", source.display());
        assert_eq!(names(image.parent().unwrap()), [""; 0]);
        assert_eq!(backend.free_bytes().unwrap().abs_diff(free) / MIB, 0);
    }
}

#[test]
fn a_cancel_at_any_point_leaves_nothing() {
    let ground = Ground::new();
    let root = root_folder(ground.path());
    fs::write(root.join("large"), vec![1; 20 * MIB as usize]).unwrap();
    let tar = ground.path().join("root.tar");
    assert!(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status().unwrap().success());
    ground.import(&small(&root)).unwrap();
    let disk = ground.path().join("disk.img");
    fs::copy(ground.disk(), &disk).unwrap();
    ground.backend.remove(&ground.images().join("base")).unwrap();
    let cancelled_after = |source: &Path, reports: u64| {
        let (slot, seen) = (Arc::new(OnceLock::<Progress>::new()), AtomicU64::new(0));
        let handle = Arc::clone(&slot);
        let progress = Progress::new(move |_, _| {
            if seen.fetch_add(1, Ordering::Relaxed) == reports {
                handle.get().unwrap().cancel();
            }
        });
        slot.set(progress.clone()).unwrap();
        image::import(ground.backend.as_ref(), &small(source), &ground.images().join("base"), &progress)
    };
    for source in [&root, &tar, &disk] {
        let mut reports = 0;
        while let Err(error) = cancelled_after(source, reports) {
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
            assert_eq!(names(&ground.images()), [""; 0], "{reports} reports of {}", source.display());
            reports += 1 + reports / 4;
        }
        assert!(reports > 10, "only {reports} points of {} were tried", source.display());
        ground.backend.remove(&ground.images().join("base")).unwrap();
    }
    assert_eq!(processes_in(ground.path()), [""; 0]);
}

/// Command lines of processes that work in or with a folder.
fn processes_in(folder: &Path) -> Vec<String> {
    let process = |entry: std::io::Result<fs::DirEntry>| {
        let process = entry.ok()?.path();
        let command = fs::read(process.join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let works_there = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        let is_this = process.ends_with(std::process::id().to_string());
        (!is_this && (works_there || command.contains(folder.to_str()?))).then_some(command)
    };
    fs::read_dir("/proc").unwrap().filter_map(process).collect()
}

/// Run by `a_kill_at_any_point_leaves_nothing_under_the_final_name`, to be killed.
#[test]
#[ignore = "a process of another test"]
fn imports_until_it_is_killed() {
    let Some(arguments) = std::env::var_os("NEXUS_TEST_IMPORT") else { return };
    let [root, source, destination] =
        arguments.to_str().unwrap().split('\n').map(PathBuf::from).collect::<Vec<_>>().try_into().unwrap();
    let backend = storage::detect(&root, None).unwrap();
    let progress = Progress::new(|completed, _| eprintln!("at {completed}"));
    eprintln!("at 0");
    image::import(backend.as_ref(), &small(&source), &destination, &progress).unwrap();
    eprintln!("done");
}

#[test]
fn a_kill_at_any_point_leaves_nothing_under_the_final_name() {
    let ground = Ground::new();
    let root = root_folder(ground.path());
    fs::write(root.join("large"), vec![1; 20 * MIB as usize]).unwrap();
    let tar = ground.path().join("root.tar");
    assert!(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status().unwrap().success());
    ground.import(&small(&root)).unwrap();
    let disk = ground.disk();
    let btrfs = LoopFs::new("btrfs", 512);
    let mut places = vec![ground.path().join("killed")];
    places.extend(btrfs.as_ref().map(|btrfs| btrfs.path().join("killed")));
    for place in places {
        let backend = storage::detect(&place, None).unwrap();
        let images = place.join("images");
        fs::create_dir(&images).unwrap();
        for source in [&root, &tar, &disk] {
            let (mut reports, mut killed) = (0, 0);
            loop {
                let survived = import_killed_after(&place, source, &images.join("base"), reports);
                let whole = images.join("base").exists();
                if whole {
                    // The name was given in the last instant before the kill: then it stands for all of it.
                    assert_clean(&images.join("base").join(DISK));
                }
                assert!(whole || !survived);
                // What the killed process had started ends by itself, and with it the last use of its folder.
                let patience = Instant::now() + Duration::from_secs(30);
                while !processes_in(&place).is_empty() {
                    assert!(Instant::now() < patience, "{:?}", processes_in(&place));
                    std::thread::yield_now();
                }
                backend.sweep(&images).unwrap();
                assert_eq!(names(&images).len(), usize::from(whole), "{:?}", names(&images));
                backend.remove(&images.join("base")).unwrap();
                if survived {
                    break;
                }
                killed += 1;
                reports += 1 + reports / 2;
            }
            assert!(killed > 5, "only {killed} kills");
        }
        assert_eq!(
            backend.kind() == BackendKind::Btrfs,
            place.starts_with(btrfs.as_ref().map_or(Path::new("/-"), LoopFs::path))
        );
    }
}

/// Whether the import ended before that many reports of progress.
fn import_killed_after(root: &Path, source: &Path, destination: &Path, reports: usize) -> bool {
    let arguments = [root, source, destination].map(|path| path.to_str().unwrap()).join("\n");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "imports_until_it_is_killed", "--ignored", "--nocapture"])
        .env("NEXUS_TEST_IMPORT", arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let last = lines.by_ref().filter(|line| line.starts_with("at ") || line == "done").take(reports + 1).last();
    child.kill().unwrap();
    let status = child.wait().unwrap();
    let said: Vec<String> = lines.collect();
    assert!(status.success() || status.signal() == Some(9), "{status}: {said:?}");
    status.success() || last.is_some_and(|line| line == "done") || said.iter().any(|line| line == "done")
}

#[test]
fn btrfs_masters_of_a_folder_are_snapshots_away_from_workspaces() {
    let Some(btrfs) = LoopFs::new("btrfs", 512) else { return };
    let ground = Ground::new();
    let root = root_folder(ground.path());
    let home = btrfs.folder_of_nobody();
    fs::set_permissions(ground.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(root.join("home/user"), fs::Permissions::from_mode(0o755)).unwrap();
    as_nobody(|| {
        let backend = storage::detect(&home, None).unwrap();
        assert_eq!(backend.kind(), BackendKind::Btrfs);
        let (image, workspace) = (home.join("images/base"), home.join("workspaces/@demo"));
        fs::create_dir(home.join("workspaces")).unwrap();
        image::import(backend.as_ref(), &small(&root), &image, &Progress::default()).unwrap();
        backend.snapshot(&image, &workspace, &Progress::default()).unwrap();
        assert_clean(&workspace.join(DISK));
        assert_eq!(names(&home.join("images")), ["base"]);
        // The same name again is refused, and the image stays.
        let again = image::import(backend.as_ref(), &small(&root), &image, &Progress::default());
        assert!(matches!(again, Err(ImageError::Storage(StorageError::AlreadyExists(_)))));
        for path in [&workspace, &image] {
            backend.remove(path).unwrap();
        }
        assert_eq!((names(&home.join("images")), names(&home.join("workspaces"))), (vec![], vec![]));
    });
}
