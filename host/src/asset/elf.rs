//! The head of an ELF kernel, as the System V ABI describes it.

/// What runs a kernel, by the words of `uname -m`.
pub(super) fn architecture(head: &[u8]) -> Result<&'static str, String> {
    if !is_elf(head) {
        return Err("it is no ELF file".to_owned());
    }
    let half = |offset: usize| {
        head.get(offset..offset + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes).unwrap_or_default()
    };
    match (head.get(4), head.get(5)) {
        (Some(2), Some(1)) => {}
        _ => return Err("it is an ELF file, but not a 64-bit little-endian one".to_owned()),
    }
    // e_type: ET_EXEC, or ET_DYN for a kernel that can be placed anywhere.
    if !matches!(half(16), 2 | 3) {
        return Err("it is an ELF file, but not a program (perhaps a module or an object file)".to_owned());
    }
    // e_machine
    match half(18) {
        62 => Ok("x86_64"),
        183 => Ok("aarch64"),
        machine => Err(format!("it is an ELF file for machine {machine}, neither x86_64 nor aarch64")),
    }
}

pub(super) fn is_elf(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}
