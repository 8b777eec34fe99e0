//! Extents of files: `FICLONE` shares them, `FIEMAP` lists them. The only unsafe code of storage.

use std::{fs::File, io, os::fd::AsRawFd};

/// `FIEMAP_FLAG_SYNC`: write back first, so that nothing is still without a place.
const FLAG_SYNC: u32 = 0x1;
/// `FIEMAP_EXTENT_LAST`.
const EXTENT_LAST: u32 = 0x1;
/// `FIEMAP_EXTENT_SHARED`: another file has it, too.
const EXTENT_SHARED: u32 = 0x2000;
/// Extents asked for at a time.
const BATCH: usize = 256;

/// `struct fiemap` of `linux/fiemap.h`.
#[repr(C)]
#[derive(Default)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
}

/// `struct fiemap_extent` of `linux/fiemap.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Exchange {
    request: Request,
    extents: [Extent; BATCH],
}

mod ioctl {
    use super::Request;

    // linux/fs.h: FICLONE is _IOW(0x94, 9, int); FS_IOC_FIEMAP is _IOWR('f', 11, struct fiemap).
    nix::ioctl_write_int!(ficlone, 0x94, 9);
    nix::ioctl_readwrite!(fiemap, b'f', 11, Request);
}

/// Makes `destination` share all blocks of `source`, in one atomic step.
pub(super) fn clone_file(source: &File, destination: &File) -> io::Result<()> {
    let source = source.as_raw_fd();
    // SAFETY: FICLONE takes a descriptor by value and touches no memory of ours; both are open for the whole call.
    #[expect(clippy::cast_sign_loss, reason = "an open descriptor is not negative")]
    unsafe { ioctl::ficlone(destination.as_raw_fd(), source as _) }?;
    Ok(())
}

/// Bytes of `file` in extents that no other file has; `None` where the file system can't tell.
pub(super) fn exclusive_bytes(file: &File) -> io::Result<Option<u64>> {
    let mut exchange = Exchange { request: Request::default(), extents: [Extent::default(); BATCH] };
    let mut exclusive = 0_u64;
    let mut start = 0_u64;
    loop {
        exchange.request = Request {
            start,
            length: u64::MAX - start,
            flags: FLAG_SYNC,
            extent_count: BATCH as u32,
            ..Request::default()
        };
        // SAFETY: the pointer covers a `struct fiemap` and the `extent_count` extents right behind it (repr(C), both of
        // alignment 8 and without padding), and the kernel writes no further.
        match unsafe { ioctl::fiemap(file.as_raw_fd(), (&raw mut exchange).cast()) } {
            Ok(_) => {}
            Err(nix::Error::EOPNOTSUPP | nix::Error::ENOTTY) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
        let mapped = (exchange.request.mapped_extents as usize).min(BATCH);
        let Some(last) = exchange.extents[..mapped].last() else { return Ok(Some(exclusive)) };
        exclusive = exchange.extents[..mapped]
            .iter()
            .filter(|extent| extent.flags & EXTENT_SHARED == 0)
            .fold(exclusive, |sum, extent| sum.saturating_add(extent.length));
        let next = last.logical.saturating_add(last.length);
        if last.flags & EXTENT_LAST != 0 || next <= start {
            return Ok(Some(exclusive));
        }
        start = next;
    }
}
