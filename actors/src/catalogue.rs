//! `MESSAGE_ID`s of the journal records that an operator may search for or act on. Each has an entry in
//! `dist/systemd/catalog/nexus.catalog`.

/// A VM is in another state.
pub const VM_STATE: &str = "6a1c0f3d9b5e4c2f8e7d4b1a90c25f01";
/// A VM is started again by its restart policy after a wait.
pub const VM_RESTART: &str = "6a1c0f3d9b5e4c2f8e7d4b1a90c25f02";
/// A VM failed too often and is not started again.
pub const VM_GAVE_UP: &str = "6a1c0f3d9b5e4c2f8e7d4b1a90c25f03";
/// A VM that ran before the daemon was started was found and goes on.
pub const VM_ADOPTED: &str = "6a1c0f3d9b5e4c2f8e7d4b1a90c25f04";
/// A guest does not answer although its VMM runs.
pub const GUEST_UNREACHABLE: &str = "6a1c0f3d9b5e4c2f8e7d4b1a90c25f05";
/// Something under Nexus' names that nothing owned was removed.
pub const ORPHAN_REMOVED: &str = "6a1c0f3d9b5e4c2f8e7d4b1a90c25f06";
/// A setting of a VM was changed.
pub const VM_CHANGED: &str = "6a1c0f3d9b5e4c2f8e7d4b1a90c25f07";
/// A VM that was to be started again is not.
pub const VM_RESTART_CALLED_OFF: &str = "6a1c0f3d9b5e4c2f8e7d4b1a90c25f08";
/// A call that changes something was answered.
pub const CALL: &str = "6a1c0f3d9b5e4c2f8e7d4b1a90c25f10";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_entry() {
        let catalogue = include_str!("../../dist/systemd/catalog/nexus.catalog");
        let ids = [
            VM_STATE,
            VM_RESTART,
            VM_GAVE_UP,
            VM_ADOPTED,
            GUEST_UNREACHABLE,
            ORPHAN_REMOVED,
            VM_CHANGED,
            VM_RESTART_CALLED_OFF,
            CALL,
        ];
        let entries: Vec<&str> = catalogue.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        assert_eq!(entries, ids);
        assert_eq!(catalogue.matches("\nSubject: ").count(), ids.len());
    }
}
