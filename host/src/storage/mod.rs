//! Workspaces on the host file system.
