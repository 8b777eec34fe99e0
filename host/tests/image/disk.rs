//! Files that hold an ext4 file system.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt},
    process::Command,
    time::{Duration, Instant},
};

use nexus_host::{
    image::{self, ImageError, ImportRequest},
    storage::Progress,
};
use nexus_model::ErrorKind;

use crate::{
    ground::{Ground, MIB, assert_root_folder, debugfs, request, root_folder, small},
    scratch::{LoopFs, mode, names},
};

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
