//! What the tools take and answer that act inside a VM. Its agent has the last word on the arguments.

use std::{collections::BTreeMap, time::Duration};

use rmcp::schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a guest may take longer than it was told.
const SLACK: Duration = Duration::from_secs(30);

/// What to run. Either `argv` or `script`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the agent reads them")]
pub(super) struct VmExec {
    /// The VM's name or id.
    vm: String,
    /// Program and arguments, without a shell. Either this or script.
    #[serde(default)]
    argv: Option<Vec<String>>,
    /// Lines for /bin/sh. Either this or argv.
    #[serde(default)]
    script: Option<String>,
    /// Folder to run it in; the user's home unless given.
    #[serde(default)]
    cwd: Option<String>,
    /// Variables on top of those that every command has.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Its standard input; empty unless given.
    #[serde(default)]
    stdin: Option<String>,
    /// Name or number of the user; root unless given.
    #[serde(default)]
    user: Option<String>,
    /// Milliseconds after which it is killed with all that it started; never unless given.
    #[serde(default)]
    pub(super) timeout_ms: Option<u64>,
}

impl VmExec {
    /// How long to wait for the agent.
    pub(super) fn limit(&self) -> Option<Duration> {
        self.timeout_ms.map(|time| Duration::from_millis(time).saturating_add(SLACK))
    }
}

/// How it ended and what it wrote.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Ran {
    /// Its exit code; null when a signal ended it.
    exit_code: Option<i32>,
    /// The signal that ended it, or null.
    signal: Option<i32>,
    /// Whether it was killed because its time was up.
    timed_out: bool,
    /// Standard output as UTF-8, with U+FFFD for what is none.
    stdout: String,
    /// Standard error, likewise.
    stderr: String,
    /// Whether stdout or stderr is only the beginning of what it wrote.
    truncated: bool,
    /// How much it wrote to standard output altogether, in bytes.
    stdout_bytes: u64,
    /// How much it wrote to standard error altogether, in bytes.
    stderr_bytes: u64,
}

/// How a file's bytes are put into a message.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(rename_all = "kebab-case")]
enum Encoding {
    /// As text.
    #[serde(rename = "utf-8")]
    Utf8,
    /// As base64 with padding (RFC 4648, section 4).
    Base64,
}

/// What to read.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the agent reads them")]
pub(super) struct FileRead {
    /// The VM's name or id.
    vm: String,
    /// Absolute path in the VM.
    path: String,
    /// Where to begin, in bytes.
    #[serde(default)]
    offset: u64,
    /// How much to read at most, in bytes: 1 to 1048576, 262144 unless given.
    #[serde(default)]
    limit: Option<u64>,
    /// utf-8 unless given; base64 takes any bytes.
    #[serde(default)]
    encoding: Option<Encoding>,
}

/// What was read.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct FileContent {
    /// The content of that part.
    content: String,
    /// How content is written.
    encoding: Encoding,
    /// Where it begins, in bytes.
    offset: u64,
    /// How much of the file it is, in bytes.
    bytes: u64,
    /// Size of the file, in bytes; 0 for some that the kernel makes up.
    size: u64,
    /// Where to go on, or null at the end of the file.
    next_offset: Option<u64>,
}

/// What to write.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the agent reads them")]
pub(super) struct FileWrite {
    /// The VM's name or id.
    vm: String,
    /// Absolute path in the VM.
    path: String,
    /// What it is to hold.
    content: String,
    /// How content is written; utf-8 unless given.
    #[serde(default)]
    encoding: Option<Encoding>,
    /// Permissions in octal digits, as for chmod; those of the file that is there unless given, or 644.
    #[serde(default)]
    mode: Option<String>,
    /// Add to the end of what is there instead; this is not whole or not at all.
    #[serde(default)]
    append: bool,
    /// Make the folders that are missing.
    #[serde(default)]
    create_folders: bool,
}

/// What was written.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Written {
    /// The path.
    path: String,
    /// How much was written, in bytes.
    bytes: u64,
    /// Whether there was no such file before.
    created: bool,
}

/// What to delete.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the agent reads them")]
pub(super) struct FileDelete {
    /// The VM's name or id.
    vm: String,
    /// Absolute path in the VM.
    path: String,
    /// Delete a folder with everything in it.
    #[serde(default)]
    recursive: bool,
}

/// What was deleted.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct FileDeleted {
    /// The path.
    path: String,
}
