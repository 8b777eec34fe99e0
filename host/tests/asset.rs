//! Imports of kernels and initrds: made ones in every compression, and Debian's own.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test says why it fails or is skipped")]

mod scratch;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use nexus_host::{
    asset::{self, AssetError, BZIMAGE, ELF, INITRD, import_initrd, import_kernel},
    storage::{Digest, Progress},
};
use nexus_model::ErrorKind;
use scratch::{mode, names, not_run};
use tempfile::TempDir;

/// An ELF program that calls itself Linux, of 512 KiB that no compressor makes nothing of.
fn elf(machine: u16) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut elf: Vec<u8> = (0..512 << 10).map(|at| if at % 3 == 0 { random.u8(..) } else { 0 }).collect();
    elf[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\0\0");
    elf[18..20].copy_from_slice(&machine.to_le_bytes());
    let banner = b"Linux version %s (%s)\0Linux version 6.18.9-test (me@here) #3 SMP\n\0";
    elf[5000..5000 + banner.len()].copy_from_slice(banner);
    elf
}

/// A bzImage with this payload, as the boot protocol describes it.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0_u8; 1024];
    image[0x1F1] = 1;
    image[0x1FE..0x200].copy_from_slice(b"\x55\xaa");
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020F_u16.to_le_bytes());
    image[0x20E..0x210].copy_from_slice(&0x0080_u16.to_le_bytes());
    image[0x236] = 1;
    image[0x24C..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    image[0x280..0x28F].copy_from_slice(b"6.18.9-test #3\0");
    image.extend(payload);
    image
}

/// What the kernel's build appends to all but gzip.
fn with_length(mut compressed: Vec<u8>, length: usize) -> Vec<u8> {
    compressed.extend(u32::try_from(length).unwrap().to_le_bytes());
    compressed
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn lz4(bytes: &[u8], legacy: bool) -> Vec<u8> {
    let info = lz4_flex::frame::FrameInfo::new().legacy_frame(legacy);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8], stream: liblzma::stream::Stream) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

struct Ground(TempDir);

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("assets")).unwrap();
        Self(folder)
    }

    fn assets(&self) -> PathBuf {
        self.0.path().join("assets")
    }

    fn kernel(&self) -> PathBuf {
        self.assets().join("kernel")
    }

    fn source(&self, content: &[u8]) -> PathBuf {
        let source = self.0.path().join("source");
        fs::write(&source, content).unwrap();
        source
    }

    fn refuses_kernel(&self, content: &[u8]) -> AssetError {
        let error = import_kernel(&self.source(content), &self.kernel(), &Progress::default()).unwrap_err();
        assert_eq!(names(&self.assets()), [""; 0], "left after: {error}");
        error
    }
}

#[test]
fn the_elf_kernel_is_taken_out_of_every_compression() {
    use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
    let elf = elf(62);
    // As scripts/xz_wrap.sh does on x86.
    let options = LzmaOptions::new_preset(1).unwrap();
    let mut filters = Filters::new();
    filters.x86().lzma2(&options);
    for (name, payload) in [
        ("gzip", gzip(&elf)),
        ("xz", with_length(xz(&elf, Stream::new_stream_encoder(&filters, Check::Crc32).unwrap()), elf.len())),
        ("lzma", with_length(xz(&elf, Stream::new_lzma_encoder(&options).unwrap()), elf.len())),
        ("zstd", with_length(zstd::encode_all(elf.as_slice(), 1).unwrap(), elf.len())),
        ("lz4 legacy", with_length(lz4(&elf, true), elf.len())),
        ("lz4", with_length(lz4(&elf, false), elf.len())),
    ] {
        let ground = Ground::new();
        let image = bzimage(&payload);
        let kernel = import_kernel(&ground.source(&image), &ground.kernel(), &Progress::default())
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(kernel.version, "6.18.9-test #3", "{name}");
        assert_eq!((kernel.architecture, kernel.size_bytes), ("x86_64", image.len() as u64), "{name}");
        assert_eq!(kernel.digest, Digest::of(&image), "{name}");
        assert_eq!(kernel.path, ground.kernel().join(BZIMAGE));
        assert_eq!(kernel.elf_path, Some(ground.kernel().join(ELF)));
        assert!(fs::read(ground.kernel().join(ELF)).unwrap() == elf, "{name}: what was unpacked differs");
        assert_eq!(fs::read(&kernel.path).unwrap(), image, "{name}");
        assert_eq!(
            (names(&ground.assets()), names(&ground.kernel())),
            (vec!["kernel".into()], vec![ELF.into(), BZIMAGE.into()])
        );
        assert_eq!(
            (mode(&ground.kernel()), mode(&kernel.path), mode(&ground.kernel().join(ELF))),
            (0o500, 0o400, 0o400)
        );
        asset::verify(&kernel.path, &kernel.digest, &Progress::default()).unwrap();
        asset::remove(&ground.kernel()).unwrap();
        asset::remove(&ground.kernel()).unwrap();
        assert_eq!(names(&ground.assets()), [""; 0]);
    }
}

#[test]
fn an_elf_kernel_is_taken_as_it_is() {
    for (machine, architecture) in [(62, "x86_64"), (183, "aarch64")] {
        let ground = Ground::new();
        let elf = elf(machine);
        let kernel = import_kernel(&ground.source(&elf), &ground.kernel(), &Progress::default()).unwrap();
        assert_eq!(kernel.version, "6.18.9-test (me@here) #3 SMP");
        assert_eq!(kernel.architecture, architecture);
        assert_eq!(kernel.elf_path.as_ref(), Some(&kernel.path));
        assert_eq!(names(&ground.kernel()), [ELF]);
        asset::verify(&kernel.path, &kernel.digest, &Progress::default()).unwrap();
    }
}

#[test]
fn a_bzimage_that_can_only_be_recognised_starts_with_qemu() {
    let ground = Ground::new();
    for magic in [&b"BZh9"[..], b"\x89LZO"] {
        let image = bzimage(&with_length([magic, &[7; 100]].concat(), 100));
        let kernel = import_kernel(&ground.source(&image), &ground.kernel(), &Progress::default()).unwrap();
        assert_eq!(kernel.elf_path, None);
        assert_eq!(names(&ground.kernel()), [BZIMAGE]);
        asset::verify(&kernel.path, &kernel.digest, &Progress::default()).unwrap();
        asset::remove(&ground.kernel()).unwrap();
    }
}

#[test]
fn what_is_no_kernel_is_named_and_refused() {
    let ground = Ground::new();
    let elf = elf(62);
    let mut module = elf.clone();
    module[16] = 1;
    let mut arm = elf.clone();
    arm[18] = 40;
    let mut other = elf.clone();
    other[5000..5200].fill(0);
    let mut old = bzimage(&gzip(&elf));
    old[0x206..0x208].copy_from_slice(&0x0204_u16.to_le_bytes());
    let whole = bzimage(&gzip(&elf));
    for (content, reason) in [
        (vec![], "it is empty"),
        (gzip(&elf), "it is gzip: decompress it first"),
        (b"070701".to_vec(), "as an initrd is"),
        (b"MZ\0\0".to_vec(), "an EFI program"),
        (b"hello".to_vec(), "neither the header of a bzImage nor that of an ELF file"),
        (elf[..100].to_vec(), "none that calls itself Linux"),
        (other, "none that calls itself Linux"),
        (module, "not a program"),
        (arm, "machine 40"),
        (old, "boot protocol is 2.04"),
        (whole[..whole.len() - 1].to_vec(), "it is cut short"),
        (bzimage(b"what is this"), "compressed in an unknown way"),
        (bzimage(&gzip(b"no kernel")), "no ELF kernel"),
    ] {
        let error = ground.refuses_kernel(&content);
        assert!(
            matches!(error, AssetError::NotAKernel { .. }) && error.to_string().contains(reason),
            "{reason}: {error}"
        );
        assert_eq!(error.kind(), ErrorKind::InvalidArgs);
    }
    let absent = import_kernel(Path::new("/absent/kernel"), &ground.kernel(), &Progress::default()).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    let folder = import_kernel(ground.0.path(), &ground.kernel(), &Progress::default()).unwrap_err();
    assert!(matches!(folder, AssetError::NotAFile(_)), "{folder}");
}

#[test]
fn a_damaged_payload_is_an_error_and_no_kernel() {
    let ground = Ground::new();
    let elf = elf(62);
    for payload in [
        gzip(&elf),
        with_length(zstd::encode_all(elf.as_slice(), 1).unwrap(), elf.len()),
        with_length(lz4(&elf, true), elf.len()),
    ] {
        let mut cut = payload[..payload.len() / 2].to_vec();
        cut.extend([0; 4]);
        let error = ground.refuses_kernel(&bzimage(&cut));
        assert_eq!(error.kind(), ErrorKind::IntegrityFailed, "{error:?}");
    }
    // The appended length is another one.
    let error = ground.refuses_kernel(&bzimage(&with_length(lz4(&elf, true), elf.len() - 1)));
    assert!(matches!(error, AssetError::Payload { compression: "lz4", .. }), "{error:?}");
    // Whatever is damaged: an error, or a kernel, and never a panic.
    let mut random = fastrand::Rng::with_seed(2);
    let whole = bzimage(&with_length(lz4(&elf, true), elf.len()));
    for _ in 0..20 {
        let mut damaged = whole.clone();
        for _ in 0..8 {
            let reach = if random.bool() { 2048 } else { whole.len() };
            let at = random.usize(..reach);
            damaged[at] = random.u8(..);
        }
        match import_kernel(&ground.source(&damaged), &ground.kernel(), &Progress::default()) {
            Ok(_) => asset::remove(&ground.kernel()).unwrap(),
            Err(_) => assert_eq!(names(&ground.assets()), [""; 0]),
        }
    }
}

#[test]
fn a_changed_kernel_is_seen_and_so_is_what_was_taken_out_of_it() {
    let ground = Ground::new();
    let image = bzimage(&gzip(&elf(62)));
    let kernel = import_kernel(&ground.source(&image), &ground.kernel(), &Progress::default()).unwrap();
    for name in [ELF, BZIMAGE] {
        let path = ground.kernel().join(name);
        let mut content = fs::read(&path).unwrap();
        *content.last_mut().unwrap() ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, content).unwrap();
        let error = asset::verify(&kernel.path, &kernel.digest, &Progress::default()).unwrap_err();
        assert!(matches!(&error, AssetError::DigestMismatch { path: changed, .. } if *changed == path), "{error}");
    }
}

#[test]
fn names_are_taken_once_and_cancels_leave_nothing() {
    let ground = Ground::new();
    let source = ground.source(&bzimage(&gzip(&elf(62))));
    let cancelled = Progress::default();
    cancelled.cancel();
    assert_eq!(import_kernel(&source, &ground.kernel(), &cancelled).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(names(&ground.assets()), [""; 0]);
    import_kernel(&source, &ground.kernel(), &Progress::default()).unwrap();
    let again = import_kernel(&source, &ground.kernel(), &Progress::default()).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    fs::create_dir(ground.assets().join(".tmp-left")).unwrap();
    assert_eq!(asset::sweep(&ground.assets()).unwrap(), [ground.assets().join(".tmp-left")]);
    assert_eq!(names(&ground.assets()), ["kernel"]);
}

#[test]
fn initrds_are_cpio_archives_plain_or_compressed() {
    let ground = Ground::new();
    let place = ground.assets().join("initrd");
    let cpio = [&b"070701"[..], &[b'0'; 104], b"TRAILER!!!\0"].concat();
    for content in [cpio.clone(), gzip(&cpio), zstd::encode_all(cpio.as_slice(), 1).unwrap(), lz4(&cpio, true)] {
        let initrd = import_initrd(&ground.source(&content), &place, &Progress::default()).unwrap();
        assert_eq!((initrd.digest, initrd.size_bytes), (Digest::of(&content), content.len() as u64));
        assert_eq!(initrd.path, place.join(INITRD));
        asset::verify(&initrd.path, &initrd.digest, &Progress::default()).unwrap();
        asset::remove(&place).unwrap();
    }
    for (content, reason) in [
        (&b""[..], "it is empty"),
        (b"070707old", "of an old kind"),
        (b"\x7fELF", "a program or a kernel"),
        (b"hello", "it begins like none"),
    ] {
        let error = import_initrd(&ground.source(content), &place, &Progress::default()).unwrap_err();
        assert!(matches!(error, AssetError::NotAnInitrd { .. }) && error.to_string().contains(reason), "{error}");
        assert_eq!(names(&ground.assets()), [""; 0]);
    }
}

/// The kernel that the demo and the VM tests start.
#[test]
fn the_distributions_kernel_is_imported() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/guest/vmlinuz");
    if !source.exists() {
        return not_run("there is no build/guest/vmlinuz: `make` the guest first");
    }
    let ground = Ground::new();
    let kernel = import_kernel(&source, &ground.kernel(), &Progress::default()).unwrap();
    assert!(kernel.version.starts_with(|first: char| first.is_ascii_digit()), "{}", kernel.version);
    assert_eq!(kernel.architecture, std::env::consts::ARCH);
    let elf = kernel.elf_path.unwrap();
    // Taken out and imported again, it says the same of itself.
    let again = import_kernel(&elf, &ground.assets().join("elf"), &Progress::default()).unwrap();
    let release = kernel.version.split(' ').next().unwrap();
    assert!(again.version.starts_with(release), "{} is not {}", again.version, kernel.version);
    assert!(again.size_bytes > 2 * kernel.size_bytes);
    asset::verify(&kernel.path, &kernel.digest, &Progress::default()).unwrap();
}
