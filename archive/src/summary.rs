//! What was carried.

/// How much an archive holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of content, without the holes that the archive has.
    pub bytes: u64,
    /// Sockets and devices, which are not carried.
    pub left_out: u64,
}
