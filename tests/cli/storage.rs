//! Images and workspaces.

use std::fs;

use nexus_tests::TestDaemon;
use serde_json::Value;

use crate::said::{ctl, has, json, ok, with_image};

#[tokio::test]
async fn images_and_workspaces_come_and_go() {
    let daemon = with_image().await;
    has(&ok(&daemon, &["image", "list"]).await, &["NAME", "base", "tiny 7"]);
    assert_eq!(ok(&daemon, &["image", "list", "-q"]).await, "base\n");
    let image = json(&daemon, &["image", "inspect", "base"]).await;
    assert_eq!((&image["name"], &image["os_name"]), (&"base".into(), &"tiny".into()));
    assert_eq!(image["digest"].as_str().unwrap().len(), 64);
    has(&ok(&daemon, &["image", "inspect", "base"]).await, &["sha256:", "tiny 7"]);

    has(&ok(&daemon, &["ws", "create", "disk", "--base", "base"]).await, &["disk"]);
    assert_eq!(ok(&daemon, &["ws", "create", "other", "--base", "base", "--quiet"]).await, "other\n");
    has(&ok(&daemon, &["workspace", "list"]).await, &["disk", "other", "base"]);
    let disk = json(&daemon, &["ws", "inspect", "disk"]).await;
    assert_eq!((&disk["name"], &disk["base"], &disk["vm"]), (&"disk".into(), &"base".into(), &Value::Null));

    let refused = ctl(&daemon, &["image", "delete", "base", "--yes"]).await;
    assert_eq!(refused.code, Some(1));
    has(&refused.err, &["Error: cannot delete image base", "disk"]);
    // Without somebody to ask it does nothing.
    let refused = ctl(&daemon, &["ws", "delete", "disk"]).await;
    assert_eq!(refused.code, Some(2));
    has(&refused.err, &["--yes"]);
    assert_eq!(ok(&daemon, &["ws", "list", "-q"]).await, "disk\nother\n");

    ok(&daemon, &["ws", "delete", "disk", "other", "--yes"]).await;
    ok(&daemon, &["image", "delete", "base", "--yes"]).await;
    assert_eq!(ok(&daemon, &["image", "list", "-q"]).await, "");
    let left: Vec<_> = daemon.home.things().into_iter().filter(|path| path.is_file()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn an_image_that_would_not_boot_is_imported_with_a_warning() {
    let daemon = TestDaemon::start().await;
    let folder = daemon.home.user().join("rootfs");
    fs::create_dir_all(folder.join("bin")).unwrap();
    let said = ctl(&daemon, &["image", "import", folder.to_str().unwrap(), "base", "-q"]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), "base\n"), "{said:?}");
    assert!(said.err.starts_with("Warning: ") && said.err.contains("/sbin/init"), "{said:?}");
}
