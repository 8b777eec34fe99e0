//! Files of guests.

use std::os::fd::OwnedFd;

use nexus_model::{ConnectionKind, ErrorKind, Name};
use nexus_protocol::{BULK_PORT, Blob, CopyIn, CopyOut, Label, MAX_FILE_BYTES, WriteFile};
use tracing::info;

use crate::{Engine, Error, GuestCopyIn, GuestFile, Origin};

/// What a path may have for Linux: `PATH_MAX` without the NUL at its end.
const MAX_PATH_BYTES: usize = 4095;

/// What a copy is as a connection.
const BULK: (ConnectionKind, u32) = (ConnectionKind::Bulk, BULK_PORT);

impl Engine {
    /// Reads a file in a guest from `offset` on: at most 256 KiB, and whether there is more.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgs` for what is no absolute path of a file, `GuestUnavailable`, `GuestFailed`;
    /// `NotImplemented` when the agent is older than that; `Timeout` when it does not answer.
    pub async fn guest_read_file(&self, vm: &Name, path: &str, offset: u64) -> Result<(Vec<u8>, bool), Error> {
        is_path(path)?;
        let file = self.agent(vm)?.read_file(path, offset).await?;
        Ok((file.data.0, file.more))
    }

    /// Writes a file in a guest, whole or not at all unless it is added to what is there.
    ///
    /// # Errors
    /// As [`guest_read_file`](Self::guest_read_file)'s; `InvalidArgs` also for more than 256 KiB.
    pub async fn guest_write_file(&self, origin: &Origin, vm: &Name, file: GuestFile) -> Result<(), Error> {
        let GuestFile { path, content, mode, owner, append, create_folders } = file;
        is_path(&path)?;
        if content.len() > MAX_FILE_BYTES {
            let message =
                format!("{} bytes are more than the {MAX_FILE_BYTES} that fit: copy a file in", content.len());
            return Err(Error::new(ErrorKind::InvalidArgs, message));
        }
        info!(NEXUS_VM = %vm, NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "writes `{path}` in VM {vm}");
        let write = WriteFile { path, data: Blob(content), mode, owner, append, folders: create_folders };
        Ok(self.agent(vm)?.write_file(write).await?)
    }

    /// Deletes a file or a link in a guest; a folder with everything in it only if `recursive` says so.
    ///
    /// # Errors
    /// As [`guest_read_file`](Self::guest_read_file)'s.
    pub async fn guest_delete_file(
        &self,
        origin: &Origin,
        vm: &Name,
        path: &str,
        recursive: bool,
    ) -> Result<(), Error> {
        is_path(path)?;
        info!(NEXUS_VM = %vm, NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "deletes `{path}` in VM {vm}");
        Ok(self.agent(vm)?.delete_file(path, recursive).await?)
    }

    /// Opens a stream that carries files of a client's to a guest. It goes by nexusd.
    ///
    /// # Errors
    /// As [`guest_read_file`](Self::guest_read_file)'s; `ResourcesExhausted` when there are too many copies already. What
    /// is wrong with the path is said on the stream.
    pub async fn guest_copy_in(&self, origin: &Origin, vm: &Name, copy: GuestCopyIn) -> Result<OwnedFd, Error> {
        let GuestCopyIn { path, name, replace } = copy;
        is_path(&path)?;
        info!(NEXUS_VM = %vm, NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "copies to `{path}` in VM {vm}");
        let agent = self.agent(vm)?;
        let owner = Some(Label::from(origin.sender.as_str()));
        let opened = agent.copy_in(CopyIn { path, name, replace }, owner).await?;
        self.handed_over(&self.vm(vm)?, &agent, BULK, &origin.sender, opened.number).await;
        Ok(opened.stream)
    }

    /// Opens a stream that carries files of a guest's to a client. It goes by nexusd.
    ///
    /// # Errors
    /// As [`guest_copy_in`](Self::guest_copy_in)'s.
    pub async fn guest_copy_out(&self, origin: &Origin, vm: &Name, path: String) -> Result<OwnedFd, Error> {
        is_path(&path)?;
        info!(NEXUS_VM = %vm, NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "copies `{path}` from VM {vm}");
        let agent = self.agent(vm)?;
        let opened = agent.copy_out(CopyOut { path }, Some(Label::from(origin.sender.as_str()))).await?;
        self.handed_over(&self.vm(vm)?, &agent, BULK, &origin.sender, opened.number).await;
        Ok(opened.stream)
    }
}

fn is_path(path: &str) -> Result<(), Error> {
    if path.starts_with('/') && !path.contains('\0') && path.len() <= MAX_PATH_BYTES {
        Ok(())
    } else {
        let message = format!("`path` must be absolute, of at most {MAX_PATH_BYTES} bytes, and can't hold a NUL");
        Err(Error::new(ErrorKind::InvalidArgs, message))
    }
}
