//! Files that a VM was given when it was made.

use std::{sync::Arc, time::Duration};

use nexus_host::agent::{AgentClient, AgentError};
use nexus_model::vm::VmFile;
use nexus_protocol::{Blob, WriteFile};
use tokio::time::timeout;

use crate::Error;

/// Where a guest keeps for which of its boots it has its files. It may forget, or lie: it gets them again, or not.
const MARK: &str = "/run/nexus-files";

/// For all of them; each has the time of a call besides.
const DEADLINE: Duration = Duration::from_secs(120);

/// Sees to it that the guest has them, once for each of its boots: what it changes stays until the next.
pub(super) async fn provision(agent: &AgentClient, boot: &str, files: &Arc<[VmFile]>) -> Result<(), String> {
    if files.is_empty() {
        return Ok(());
    }
    let deadline = DEADLINE.as_secs();
    timeout(DEADLINE, write(agent, boot, files))
        .await
        .unwrap_or_else(|_| Err(format!("it has not taken the files that it was given within {deadline} s")))
}

async fn write(agent: &AgentClient, boot: &str, files: &[VmFile]) -> Result<(), String> {
    match agent.read_file(MARK, 0).await {
        Ok(mark) if mark.data.0 == boot.as_bytes() => return Ok(()),
        Ok(_) => {}
        // There is none yet.
        Err(AgentError::Failed(_)) => {}
        Err(error) => return Err(format!("it can't be given files: {}", why(error))),
    }
    for file in files {
        let write = WriteFile {
            path: file.path.clone(),
            data: Blob(file.content.bytes().to_vec()),
            // Whatever the image has there.
            mode: Some(file.mode.unwrap_or(0o644)),
            owner: Some(file.owner.clone().unwrap_or_else(|| "root".to_owned())),
            append: false,
            folders: true,
        };
        agent.write_file(write).await.map_err(|error| format!("it can't be given `{}`: {}", file.path, why(error)))?;
    }
    let mark = WriteFile {
        path: MARK.to_owned(),
        data: Blob(boot.as_bytes().to_vec()),
        mode: Some(0o600),
        folders: true,
        ..WriteFile::default()
    };
    agent.write_file(mark).await.map_err(|error| format!("it can't be told that it has its files: {}", why(error)))
}

fn why(error: AgentError) -> String {
    Error::from(error).text()
}
