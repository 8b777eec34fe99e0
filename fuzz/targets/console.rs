//! What nexusd reads on a guest's console when its VMM has ended.

#![no_main]

use std::{fs, path::PathBuf};

use libfuzzer_sys::fuzz_target;
use nexus_fuzz::assert_plain;
use nexus_host::vmm::last_words;
use tempfile::TempDir;

thread_local! {
    static LOG: (PathBuf, TempDir) = {
        let folder = tempfile::tempdir().expect("a temporary folder");
        (folder.path().join("console.log"), folder)
    };
}

fuzz_target!(|written: &[u8]| {
    LOG.with(|(log, _)| {
        fs::write(log, written).expect("a log");
        if let Some(words) = last_words(log) {
            assert_plain(&words);
            assert!(words.chars().count() <= 300);
        }
    });
});
