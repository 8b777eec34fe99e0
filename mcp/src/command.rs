//! What `run_command` takes and answers.

use std::{collections::BTreeMap, num::NonZeroU64};

use rmcp::schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to run. Either `argv` or `script`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct RunCommand {
    /// Program and arguments, without a shell. Either this or script.
    #[serde(default)]
    pub argv: Option<Vec<String>>,
    /// Lines for /bin/sh. Either this or argv.
    #[serde(default)]
    pub script: Option<String>,
    /// Folder to run it in, an absolute path; the user's home unless given.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Variables on top of those that every command has.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its standard input; empty unless given.
    #[serde(default)]
    pub stdin: Option<String>,
    /// Name or number of the user; root unless given.
    #[serde(default)]
    pub user: Option<String>,
    /// Milliseconds after which it is killed with all that it started; never unless given.
    #[serde(default)]
    pub timeout_ms: Option<NonZeroU64>,
}

/// How it ended and what it wrote.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub struct Ran {
    /// Its exit code; null when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it, or null.
    pub signal: Option<i32>,
    /// Whether it was killed because its time was up.
    pub timed_out: bool,
    /// Standard output as UTF-8, with U+FFFD for what is none.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// Whether stdout or stderr is only the beginning of what it wrote.
    pub truncated: bool,
    /// How much it wrote to standard output altogether, in bytes.
    pub stdout_bytes: u64,
    /// How much it wrote to standard error altogether, in bytes.
    pub stderr_bytes: u64,
}
