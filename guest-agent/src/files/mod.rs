//! Files of the guest, for the host and for clients of MCP. The work blocks, as a disk may be slow: it belongs on a thread
//! of its own.

mod copy;
mod delete;
mod error;
mod read;
mod write;

use std::sync::Arc;

use nexus_archive::Root;
use nexus_protocol::{Answer, Failure, FailureKind, FileContent, MAX_FILE_BYTES, ReadFile, WriteFile};
use tokio::task::spawn_blocking;

pub(crate) use copy::{Seats, serve as copy};
pub(crate) use delete::delete;
pub(crate) use error::FileError;
pub(crate) use read::{Part, read};
pub(crate) use write::{Write, write};

/// Answers [`Call::ReadFile`](nexus_protocol::Call::ReadFile).
pub(crate) async fn answer_read(root: Arc<Root>, read_file: ReadFile) -> Result<Answer, Failure> {
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    work(move || read(&root, &read_file.path, read_file.offset, limit)).await.map(|part| {
        Answer::File(FileContent { data: part.bytes.into(), size: part.size, mode: part.mode, more: part.is_more })
    })
}

/// Answers [`Call::WriteFile`](nexus_protocol::Call::WriteFile).
pub(crate) async fn answer_write(root: Arc<Root>, write_file: WriteFile) -> Result<Answer, Failure> {
    let WriteFile { path, data, mode, owner, append, folders } = write_file;
    if data.0.len() > MAX_FILE_BYTES {
        let message = format!("that is more than {} KiB: write it in parts, or copy it", MAX_FILE_BYTES >> 10);
        return Err(Failure::new(FailureKind::Invalid, message));
    }
    work(move || {
        let how = Write { mode, owner: owner.as_deref(), append, folders };
        write(&root, &path, &data.0, how)
    })
    .await
    .map(|_| Answer::Done)
}

/// Answers [`Call::DeleteFile`](nexus_protocol::Call::DeleteFile).
pub(crate) async fn answer_delete(root: Arc<Root>, path: String, recursive: bool) -> Result<Answer, Failure> {
    work(move || delete(&root, &path, recursive)).await.map(|()| Answer::Done)
}

async fn work<T: Send + 'static>(work: impl FnOnce() -> Result<T, FileError> + Send + 'static) -> Result<T, Failure> {
    let done = spawn_blocking(work).await;
    done.map_err(|_| Failure::new(FailureKind::System, "the agent failed"))?.map_err(Failure::from)
}

fn is_absolute(path: &str) -> Result<(), FileError> {
    if path.starts_with('/') { Ok(()) } else { Err(FileError::Relative(path.to_owned())) }
}
