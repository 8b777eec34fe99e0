//! How a test that runs nexusd says what fails where.
//!
//! `NEXUS_FAILPOINTS` names a file of what [`nexus_model::failpoints::configure`] reads. It is read at the start and at
//! each SIGUSR1; then the heap's live bytes are written beside it, into a file with the suffix `.heap`.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    thread,
};

use nix::sys::signal::{SigSet, Signal};

/// Reads the file now, and at each SIGUSR1 from now on. Before any other thread is started.
///
/// # Errors
/// When it can't be read, or says what nobody understands.
pub fn obey(live_bytes: fn() -> i64) -> io::Result<()> {
    let Some(file) = env::var_os("NEXUS_FAILPOINTS").map(PathBuf::from) else { return Ok(()) };
    read(&file, live_bytes)?;
    let signals = SigSet::from(Signal::SIGUSR1);
    // Every thread from here on inherits it, so that the signal waits for the one below.
    signals.thread_block()?;
    thread::Builder::new().name("failpoints".to_owned()).spawn(move || {
        while signals.wait().is_ok() {
            if let Err(error) = read(&file, live_bytes) {
                tracing::error!("{}: {error}", file.display());
            }
        }
    })?;
    Ok(())
}

fn read(file: &Path, live_bytes: fn() -> i64) -> io::Result<()> {
    let text = fs::read_to_string(file)?;
    nexus_model::failpoints::configure(&text).map_err(io::Error::other)?;
    // Whole or not at all: a test waits for it.
    let (heap, unfinished) = (file.with_extension("heap"), file.with_extension("heap.new"));
    fs::write(&unfinished, live_bytes().to_string())?;
    fs::rename(unfinished, heap)
}
