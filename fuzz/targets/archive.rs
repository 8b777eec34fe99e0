//! What a guest sends to nexusctl when a file or a folder is copied out of it: chunks, and an archive in them.

#![no_main]

use std::{
    ffi::OsStr,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use libfuzzer_sys::fuzz_target;
use nexus_archive::{Draft, Limits, Root, Target, Unpacker, chunk};
use tempfile::TempDir;

const LIMITS: Limits = Limits { entries: 100, bytes: 1 << 20, length: 1 << 30 };
const SECRET: &str = "the host's own";

/// A folder with something in it that is nobody's else.
struct Outside {
    folder: TempDir,
    secret: PathBuf,
    root: Root,
}

thread_local! {
    static OUTSIDE: Outside = {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let secret = folder.path().join("secret");
        fs::write(&secret, SECRET).expect("a file");
        let root = Root::open(folder.path()).expect("a folder");
        Outside { folder, secret, root }
    };
}

impl Outside {
    fn names(&self) -> usize {
        fs::read_dir(self.folder.path()).expect("a folder").count()
    }

    /// Unpacks an archive in a folder beside the secret, and sees that nothing else is touched.
    fn unpack(&self, archive: impl Read) {
        let target = Target::find(&self.root, Path::new("/"), Some(OsStr::new("copy")), false).expect("a place");
        let draft = Draft::begin(target).expect("a folder");
        let _ = Unpacker::new(draft.folder(), LIMITS).unpack(archive);
        assert_eq!(self.names(), 2);
        drop(draft);
        assert_eq!((self.names(), fs::read_to_string(&self.secret).expect("a file").as_str()), (1, SECRET));
    }
}

fuzz_target!(|said: &[u8]| {
    OUTSIDE.with(|outside| {
        outside.unpack(said);
        let mut chunks = chunk::Reader::new(said);
        outside.unpack(&mut chunks);
        if let Ok((mut rest, _)) = chunks.finish() {
            let _ = chunk::read_report(&mut rest);
        }
    });
});
