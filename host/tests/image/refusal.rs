//! What is no image, and what the machine lacks.

use std::{fs, process::Command};

use nexus_host::image::ImageError;
use nexus_model::ErrorKind;
use nix::sys::stat::Mode;

use crate::{
    ground::{Ground, request, root_folder, small},
    scratch::LoopFs,
    tarball::archive,
};

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
