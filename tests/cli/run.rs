//! A VM for one command, also with a real kernel.

use std::{fs, os::unix::process::ExitStatusExt, process::Stdio};

use nexus_host::{asset::import_kernel, storage::Progress};
use nexus_tests::PATIENCE;
use nix::sys::signal::Signal;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};

use crate::said::{ctl, has, interrupt, json, nothing_left, ok, with_guest_parts, with_image};

#[tokio::test]
async fn run_is_a_vm_for_one_command() {
    let daemon = with_image().await;
    let words = ["run", "base", "--vmm", "process", "-e", "A=b", "--", "sh", "-c", "echo $A; exit 5"];
    let said = ctl(&daemon, &words).await;
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(5), "b\n", ""), "{said:?}");
    nothing_left(&daemon).await;
    let said = ctl(&daemon, &["run", "base", "--vmm", "process", "--", "no-such-program"]).await;
    assert_eq!(said.code, Some(127), "{said:?}");
    nothing_left(&daemon).await;
    let said = ctl(&daemon, &["run", "nothing", "--vmm", "process", "--", "true"]).await;
    assert_eq!(said.code, Some(125), "{said:?}");
    has(&said.err, &["There is no image `nothing`"]);
    nothing_left(&daemon).await;
}

#[tokio::test]
async fn run_leaves_nothing_however_it_ends() {
    let daemon = with_image().await;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let words = ["run", "base", "--vmm", "process", "--", "sh", "-c", "echo ready; exec sleep 1000"];
        let mut child = daemon.nexusctl(&words).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.expect("output in time").unwrap();
        assert_eq!(line.as_deref(), Some("ready"));
        interrupt(&child, signal);
        let status = timeout(PATIENCE, child.wait()).await.expect("nexusctl ends").unwrap();
        match signal {
            Signal::SIGKILL => assert_eq!(status.signal(), Some(9)),
            other => assert_eq!(status.code(), Some(128 + other as i32)),
        }
        nothing_left(&daemon).await;
    }
}

/// A daemon that may import the parts of a real guest.
#[tokio::test]
async fn a_real_vm_runs_a_command() {
    let Some((daemon, parts)) = with_guest_parts().await else { return };
    let (kernel, initrd) = (parts.kernel.to_str().unwrap(), parts.initrd.to_str().unwrap());
    has(&ok(&daemon, &["kernel", "import", kernel, "--initrd", initrd]).await, &["Kernel kernel-", "initrd-"]);
    has(&ok(&daemon, &["kernel", "list"]).await, &["kernel", "initrd", "yes"]);
    let names = ok(&daemon, &["kernel", "list", "-q"]).await;
    // Once more is no more.
    ok(&daemon, &["kernel", "import", kernel, "--initrd", initrd]).await;
    assert_eq!(ok(&daemon, &["kernel", "list", "-q"]).await, names);
    let name = names.lines().find(|name| name.starts_with("kernel-")).unwrap();
    has(&ok(&daemon, &["kernel", "inspect", name]).await, &[name, "sha256:", "Default:", "yes"]);
    has(&ok(&daemon, &["kernel", "verify", name]).await, &["is as it was imported"]);
    has(&ok(&daemon, &["kernel", "default", name]).await, &["is taken where none"]);
    ok(&daemon, &["image", "import", parts.rootfs.to_str().unwrap(), "guest"]).await;
    let said = ctl(&daemon, &["run", "guest", "--vmm", "qemu", "--", "uname", "-a"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.starts_with("Linux vm-"), "{said:?}");
    nothing_left(&daemon).await;
    // Not even what became a daemon there outlives a client that is killed.
    ok(&daemon, &["vm", "create", "web", "--image", "guest", "--vmm", "qemu"]).await;
    ok(&daemon, &["vm", "start", "web"]).await;
    let daemon_script = "sh -c \"echo \\$\\$ >/tmp/pid; exec sleep 1000\" >/dev/null 2>&1 &";
    for then in ["cat >/dev/null; exec sleep 1000", "exec yes"] {
        let script = &format!("rm -f /tmp/pid; env -i setsid sh -c '{daemon_script}'; echo ready; {then}");
        let words = ["exec", "-i", "web", "--", "sh", "-c", script];
        let mut child = daemon.nexusctl(&words).stdin(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.expect("output in time").unwrap();
        assert_eq!(line.as_deref(), Some("ready"));
        let read = "until [ -s /tmp/pid ]; do :; done; cat /tmp/pid";
        let left = ok(&daemon, &["exec", "web", "--", "sh", "-c", read]).await;
        interrupt(&child, Signal::SIGKILL);
        let ended = async { while json(&daemon, &["vm", "execs", "web"]).await != Value::Array(Vec::new()) {} };
        timeout(PATIENCE, ended).await.expect("the command ends");
        let gone = format!("while [ -e /proc/{} ]; do :; done", left.trim());
        ok(&daemon, &["exec", "web", "--", "sh", "-c", &gone]).await;
    }
    ok(&daemon, &["vm", "delete", "web", "--force", "--workspaces", "--yes"]).await;
    // No kernel boots in so short a time.
    let said = ctl(&daemon, &["run", "guest", "--vmm", "qemu", "--boot-timeout", "10ms", "--", "true"]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(125), ""), "{said:?}");
    has(&said.err, &["has not answered within 10 ms", "The command did not run.", "The VM is removed."]);
    nothing_left(&daemon).await;
    has(&ok(&daemon, &["kernel", "delete", name, "--yes"]).await, &["is deleted"]);
    assert!(!ok(&daemon, &["kernel", "list", "-q"]).await.contains(name));
}

#[tokio::test]
async fn an_uncompressed_kernel_is_imported_and_boots() {
    let Some((daemon, parts)) = with_guest_parts().await else { return };
    let vmlinux = daemon.home.user().join("vmlinux");
    let unpacked = daemon.home.user().join("unpacked");
    let bzimage = import_kernel(&parts.kernel, &unpacked, &Progress::default()).unwrap();
    fs::copy(bzimage.elf_path.expect("Debian's kernel can be unpacked"), &vmlinux).unwrap();

    let (path, initrd) = (vmlinux.to_str().unwrap(), parts.initrd.to_str().unwrap());
    let words = ["kernel", "import", path, "--initrd", initrd, "--version", "elf"];
    has(&ok(&daemon, &words).await, &["Kernel kernel-elf is there, and initrd-elf goes with it."]);
    let kernels = json(&daemon, &["kernel", "list"]).await;
    let kernel = kernels.as_array().unwrap().iter().find(|asset| asset["kind"] == "kernel").unwrap();
    assert_eq!((&kernel["name"], &kernel["version"]), (&"kernel-elf".into(), &"elf".into()));
    assert_eq!(kernel["architecture"], "x86_64");
    let content = fs::read(&vmlinux).unwrap();
    assert_eq!(kernel["size_bytes"], content.len());
    let digest: String = Sha256::digest(&content).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(kernel["digest"], digest);
    assert!(content == fs::read(kernel["path"].as_str().unwrap()).unwrap(), "it was changed on the way");

    ok(&daemon, &["image", "import", parts.rootfs.to_str().unwrap(), "guest"]).await;
    let said = ctl(&daemon, &["run", "guest", "--vmm", "qemu", "--", "uname", "-s"]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), "Linux\n"), "{said:?}");
    nothing_left(&daemon).await;
}
