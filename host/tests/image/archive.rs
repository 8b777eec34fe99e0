//! Archives, well-meant and hostile.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::{MetadataExt, chown},
};

use nexus_host::{
    image::{self, ImageError},
    storage::{DISK, Progress},
};
use nexus_model::ErrorKind;
use nix::unistd::geteuid;

use crate::{
    ground::{Ground, MIB, copy_backend, debugfs, small},
    scratch::{NOBODY, as_nobody, names, not_run},
    tarball::{append, archive, assert_archived, header},
};

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
