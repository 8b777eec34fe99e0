//! The loopback interface, which the kernel leaves down.

use std::os::fd::AsRawFd;

use nix::{
    libc::{IFF_UP, SIOCGIFFLAGS, SIOCSIFFLAGS, c_char, ifreq},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

nix::ioctl_readwrite_bad!(get_interface_flags, SIOCGIFFLAGS, ifreq);
nix::ioctl_write_ptr_bad!(set_interface_flags, SIOCSIFFLAGS, ifreq);

/// Sets `lo` up; it has its addresses then.
pub(super) fn bring_up() -> nix::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: an `ifreq` is plain data for which zeros are valid.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(*b"lo\0") {
        *slot = byte as c_char;
    }
    // SAFETY: the request names an interface and is large enough for what the kernel writes into it.
    unsafe { get_interface_flags(socket.as_raw_fd(), &raw mut request) }?;
    // SAFETY: the kernel has just filled in the flags.
    unsafe { request.ifr_ifru.ifru_flags |= IFF_UP as i16 };
    // SAFETY: the request names an interface and holds its flags.
    unsafe { set_interface_flags(socket.as_raw_fd(), &raw const request) }?;
    Ok(())
}
