//! Who holds the processes of a VM: the systemd user manager, or a shim.
