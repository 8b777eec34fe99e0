//! `file_read`, `file_write` and `file_delete`. The work is done on threads of their own: a disk may be slow.

mod delete;
mod read;
mod write;

use std::sync::Arc;

use nexus_archive::Root;
use nexus_mcp::{FileDelete, FileRead, FileWrite, Reply};
use tokio::task::spawn_blocking;

/// Reads a file, or a part of it.
pub(super) async fn read(arguments: Result<FileRead, String>, root: &Arc<Root>) -> Result<Reply, String> {
    work(arguments, root, read::run).await
}

/// Writes a file.
pub(super) async fn write(arguments: Result<FileWrite, String>, root: &Arc<Root>) -> Result<Reply, String> {
    work(arguments, root, write::run).await
}

/// Deletes a file or a folder.
pub(super) async fn delete(arguments: Result<FileDelete, String>, root: &Arc<Root>) -> Result<Reply, String> {
    work(arguments, root, delete::run).await
}

async fn work<T: Send + 'static>(
    arguments: Result<T, String>,
    root: &Arc<Root>,
    run: impl FnOnce(T, &Root) -> Result<Reply, String> + Send + 'static,
) -> Result<Reply, String> {
    let (arguments, root) = (arguments?, Arc::clone(root));
    let done = spawn_blocking(move || run(arguments, &root)).await;
    done.unwrap_or_else(|_| Err("the agent failed".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
        path::Path,
    };

    use serde::Deserialize;
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    fn folder() -> (TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        (folder, root)
    }

    fn run<T: for<'de> Deserialize<'de>>(
        arguments: Value,
        run: impl FnOnce(T, &Root) -> Result<Reply, String>,
        root: &Root,
    ) -> Result<Value, String> {
        let reply = run(serde_json::from_value(arguments).unwrap(), root)?;
        Ok(reply.structured.unwrap())
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_written_is_read() {
        let (folder, root) = folder();
        let written =
            run(json!({"path": "/a/b/note", "content": "é\n", "create_folders": true}), write::run, &root).unwrap();
        assert_eq!(written, json!({"path": "/a/b/note", "bytes": 3, "created": true}));
        assert_eq!(mode(&folder.path().join("a/b/note")), 0o644);
        let read = run(json!({"path": "/a/b/note"}), read::run, &root).unwrap();
        assert_eq!(
            read,
            json!({"content": "é\n", "encoding": "utf-8", "offset": 0, "bytes": 3, "size": 3, "next_offset": null})
        );
        let read = run(json!({"path": "/a/b/note", "encoding": "base64"}), read::run, &root).unwrap();
        assert_eq!(read["content"], "w6kK");
        run(json!({"path": "/bytes", "content": "AP8=", "encoding": "base64", "mode": "600"}), write::run, &root)
            .unwrap();
        assert_eq!(fs::read(folder.path().join("bytes")).unwrap(), [0, 255]);
        assert_eq!(mode(&folder.path().join("bytes")), 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_file_is_replaced_with_its_mode() {
        let (folder, root) = folder();
        let file = folder.path().join("script");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o751)).unwrap();
        let before = fs::metadata(&file).unwrap().ino();
        let written = run(json!({"path": "/script", "content": "new"}), write::run, &root).unwrap();
        assert_eq!(written["created"], false);
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("new", 0o751));
        assert_ne!(fs::metadata(&file).unwrap().ino(), before, "whoever has the old one keeps it");
        run(json!({"path": "/script", "content": "er", "append": true}), write::run, &root).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "newer");
    }

    #[test]
    fn a_part_of_a_file_ends_at_a_character() {
        let (folder, root) = folder();
        fs::write(folder.path().join("text"), "aé€").unwrap();
        let (mut offset, mut text, mut parts) = (0, String::new(), 0);
        loop {
            let read = run(json!({"path": "/text", "offset": offset, "limit": 4}), read::run, &root).unwrap();
            text.push_str(read["content"].as_str().unwrap());
            parts += 1;
            match read["next_offset"].as_u64() {
                Some(next) => offset = next,
                None => break,
            }
        }
        assert_eq!((text.as_str(), parts), ("aé€", 2));
        for limit in [0, 1_048_577] {
            assert!(run(json!({"path": "/text", "limit": limit}), read::run, &root).is_err(), "{limit}");
        }
        let beyond = run(json!({"path": "/text", "offset": 100}), read::run, &root).unwrap();
        assert_eq!((&beyond["content"], &beyond["next_offset"]), (&json!(""), &Value::Null));
    }

    #[test]
    fn what_can_not_be_done_says_why() {
        let (folder, root) = folder();
        fs::write(folder.path().join("binary"), [0xff]).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        nix::unistd::mkfifo(&folder.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (path, said) in [
            ("/none", "No such file"),
            ("relative", "no absolute path"),
            ("/binary", "base64"),
            ("/folder", "is a folder"),
            ("/fifo", "is no file"),
            ("/none\0", "cannot read"),
        ] {
            let error = run(json!({"path": path}), read::run, &root).unwrap_err();
            assert!(error.contains(said), "{path}: {error}");
        }
        for (arguments, said) in [
            (json!({"path": "/a/b", "content": ""}), "No such file"),
            (json!({"path": "/folder", "content": ""}), "is a folder"),
            (json!({"path": "/fifo", "content": "", "append": true}), "is no file"),
            (json!({"path": "/a", "content": "?", "encoding": "base64"}), "no base64"),
            (json!({"path": "/a", "content": "", "mode": "rwx"}), "octal"),
            (json!({"path": "/a", "content": "", "mode": "10000"}), "octal"),
            (json!({"path": "/", "content": ""}), "no name"),
        ] {
            let error = run(arguments.clone(), write::run, &root).unwrap_err();
            assert!(error.contains(said), "{arguments}: {error}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn links_are_deleted_and_not_what_they_lead_to() {
        let (folder, root) = folder();
        fs::create_dir_all(folder.path().join("kept/below")).unwrap();
        fs::create_dir_all(folder.path().join("tree/below")).unwrap();
        symlink("../kept", folder.path().join("tree/link")).unwrap();
        symlink("kept", folder.path().join("link")).unwrap();
        let error = run(json!({"path": "/tree"}), delete::run, &root).unwrap_err();
        assert!(error.contains("recursive"), "{error}");
        for path in ["/link", "/tree"] {
            run(json!({"path": path, "recursive": true}), delete::run, &root).unwrap();
        }
        assert!(folder.path().join("kept/below").is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = run(json!({"path": "/tree", "recursive": true}), delete::run, &root).unwrap_err();
        assert!(error.contains("No such file"), "{error}");
        run(json!({"path": "/", "recursive": true}), delete::run, &root).unwrap_err();
    }
}
