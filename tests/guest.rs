//! What a guest offers, in a real VM: its files, commands, streams and terminals, by the bus and by nexusctl.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{fs, process::Stdio};

use nexus_dbus::{
    ROOT,
    client::{ConnectionProxy, GuestProxy, Options},
};
use nexus_model::ErrorKind;
use nexus_tests::{GuestParts, REAL_PATIENCE, TestDaemon, VmPath, sees, stream};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};
use zbus::proxy::CacheProperties;

/// The daemon and its VM.
struct Real {
    daemon: TestDaemon,
    vm: VmPath,
}

impl Real {
    async fn start(more: &[&str]) -> Option<Self> {
        let daemon = TestDaemon::with_real_vm(&GuestParts::find()?, more).await;
        Some(Self { daemon, vm: format!("{ROOT}/vm/web").try_into().unwrap() })
    }

    async fn guest(&self) -> GuestProxy<'static> {
        self.daemon.guest(&self.vm).await
    }

    /// What a script in the guest writes that ends well.
    async fn sh(&self, script: &str) -> String {
        self.daemon.ctl(&["exec", "web", "--", "sh", "-c", script]).await
    }

    /// How nexusctl ends with a command of the guest's.
    async fn code(&self, argv: &[&str]) -> Option<i32> {
        let arguments = [&["exec", "web", "--"], argv].concat();
        let output = timeout(REAL_PATIENCE, self.daemon.nexusctl(&arguments).output()).await.expect("nexusctl ends");
        output.unwrap().status.code()
    }

    /// The streams of this kind that clients have, once there are so many.
    async fn connections(&self, kind: &str, count: usize) -> Vec<ConnectionProxy<'static>> {
        let there = async {
            loop {
                let mut found = Vec::new();
                for path in self.daemon.read(&self.vm).await.connections {
                    let proxy = ConnectionProxy::builder(&self.daemon.client).path(path);
                    let proxy = proxy.cache_properties(CacheProperties::No).build().await.unwrap();
                    // It may have gone just now.
                    let is_kept = proxy.owner().await.is_ok_and(|owner| owner == "nexusd");
                    if !is_kept && proxy.kind().await.is_ok_and(|its| its == kind) {
                        found.push(proxy);
                    }
                }
                if found.len() == count {
                    return found;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        timeout(REAL_PATIENCE, there).await.unwrap_or_else(|_| panic!("there are not {count} connections of {kind}"))
    }
}

async fn is_at_its_end(mut stream: UnixStream) {
    // A stream of vsock may be reset instead.
    let _ = timeout(REAL_PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_commands() {
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "canary\n").unwrap();
    let (token, motd) = (token.display(), format!("/etc/motd={}", token.display()));
    let secret = format!("/etc/app/token={token}:600:nobody");
    let Some(real) = Real::start(&["--env", "GREETING=hello", "--file", &secret, "--file", &motd]).await else {
        return;
    };
    let guest = real.guest().await;

    // What it was given is there, at each boot anew.
    let look = "stat -c '%a %u' /etc/app/token /etc/motd; cat /etc/app/token";
    assert_eq!(real.sh(look).await, "600 65534\n644 0\ncanary\n");
    real.sh("rm /etc/app/token; sync").await;
    real.daemon.ctl(&["vm", "restart", "web"]).await;
    assert_eq!(real.sh(look).await, "600 65534\n644 0\ncanary\n");

    // Files of its own.
    let options =
        |more: &[(&'static str, zbus::Variant<'static>)]| -> Options<'static> { more.iter().cloned().collect() };
    let how = options(&[("create-folders", true.into()), ("mode", 0o640_u32.into()), ("owner", "nobody".into())]);
    guest.write_file("/srv/a/b", b"0123456789", how).await.unwrap();
    guest.write_file("/srv/a/b", b"ab", options(&[("append", true.into())])).await.unwrap();
    let part = guest.read_file("/srv/a/b", options(&[("offset", 8_u64.into())])).await.unwrap();
    assert_eq!(part, (b"89ab".to_vec(), false));
    assert_eq!(real.sh("stat -c '%a %u %s' /srv/a/b").await, "640 65534 12\n");
    guest.delete_file("/srv/a", options(&[("recursive", true.into())])).await.unwrap();
    assert_eq!(guest.read_file("/srv/a/b", Options::new()).await.unwrap_err().kind(), Some(ErrorKind::NotFound));
    let long = guest.read_file(&format!("/{}", "a".repeat(2 << 20)), Options::new()).await.unwrap_err();
    assert_eq!(long.kind(), Some(ErrorKind::InvalidArgs), "{long}");

    // Commands as docker has them.
    let words =
        ["exec", "-u", "nobody", "-w", "/tmp", "-e", "K=V", "web", "--", "sh", "-c", "id -u; pwd; echo $K $GREETING"];
    assert_eq!(real.daemon.ctl(&words).await, "65534\n/tmp\nV hello\n");
    let mut child = real.daemon.nexusctl(&["exec", "-i", "web", "--", "tr", "a-z", "A-Z"]);
    let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"shout").await.unwrap();
    let output = timeout(REAL_PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"SHOUT"[..]));
    for (argv, code) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["sh", "-c", "kill -TERM $$"], 128 + 15),
        (&["no-such-command"], 127),
        (&["/etc/passwd"], 126),
    ] {
        assert_eq!(real.code(argv).await, Some(code), "{argv:?}");
    }
    let much = "head -c 300000 /dev/zero | tr '\\0' x";
    let (code, out, _, truncated) = guest.run(&["sh", "-c", much], Options::new()).await.unwrap();
    assert_eq!((code, out.len(), truncated), (0, 256 << 10, true));

    // One whose time is up goes with all that it started, and one that needs nobody goes on.
    let script = "setsid sleep 4711 & exec sleep 4711";
    let late = guest.run(&["sh", "-c", script], options(&[("timeout-usec", 1_000_000_u64.into())])).await.unwrap_err();
    assert_eq!(late.kind(), Some(ErrorKind::Timeout), "{late}");
    real.sh("while grep -qs 471[1] /proc/[0-9]*/cmdline; do sleep 0.1; done").await;
    let id: u64 = real.daemon.ctl(&["exec", "-d", "web", "--", "sleep", "1234"]).await.trim().parse().unwrap();
    assert_eq!(guest.list_execs().await.unwrap(), [(id, vec!["sleep".to_owned(), "1234".to_owned()])]);
    guest.signal_exec(id, 15).await.unwrap();
    assert_eq!(timeout(REAL_PATIENCE, guest.wait_exec(id)).await.unwrap().unwrap(), (128 + 15, 15));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_terminals() {
    let Some(real) = Real::start(&[]).await else { return };
    let caller = real.daemon.bus.connect().await;
    let guest = GuestProxy::builder(&caller).path(real.vm.clone()).build().await.unwrap();
    let options = |size: Option<(u32, u32)>| {
        let mut options = Options::from([("name", "main".into())]);
        if let Some((columns, rows)) = size {
            options.extend([("columns", columns.into()), ("rows", rows.into())]);
        }
        options
    };

    // A terminal with a size, and a viewer who comes later and sees what was before.
    let (id, first) = guest.open_shell(&[], options(Some((101, 37)))).await.unwrap();
    let mut first = stream(first);
    first.write_all(b"stty size; echo mar''ker\r").await.unwrap();
    sees(&mut first, "37 101").await;
    sees(&mut first, "marker").await;
    let (again, second) = real.guest().await.open_shell(&[], options(None)).await.unwrap();
    assert_eq!(again, id);
    let mut second = stream(second);
    sees(&mut second, "marker").await;
    guest.resize_exec(id, 90, 33).await.unwrap();
    second.write_all(b"stty size\r").await.unwrap();
    sees(&mut first, "33 90").await;
    sees(&mut second, "33 90").await;
    assert_eq!(guest.list_shells().await.unwrap(), [(id, "main".to_owned(), 90, 33, 2)]);

    // Each stream is a connection, which counts what it carries, and can be closed.
    let name = caller.unique_name().unwrap().to_string();
    let [one, other] = real.connections("terminal", 2).await.try_into().unwrap();
    assert_eq!((one.owner().await.unwrap(), one.port().await.unwrap()), (name.clone(), 300));
    assert_ne!(other.owner().await.unwrap(), name);
    assert!(one.get_statistics().await.unwrap()["bytes-in"] > 8);
    other.close().await.unwrap();
    is_at_its_end(second).await;
    real.connections("terminal", 1).await;

    let tools = stream(guest.open_tools(Options::new()).await.unwrap());
    real.connections("tools", 1).await[0].close().await.unwrap();
    is_at_its_end(tools).await;
    real.connections("tools", 0).await;

    // They end with their owner; a terminal that has a name goes on.
    let (_, stdin, stdout, stderr) = guest.exec(&["sleep", "4711"], Options::new()).await.unwrap();
    real.connections("stdio", 1).await;
    drop(guest);
    caller.close().await.unwrap();
    is_at_its_end(first).await;
    is_at_its_end(stream(stdout)).await;
    drop((stdin, stderr));
    real.connections("terminal", 0).await;
    real.connections("stdio", 0).await;
    real.sh("while grep -qs 471[1] /proc/[0-9]*/cmdline; do sleep 0.1; done").await;
    assert_eq!(real.guest().await.list_shells().await.unwrap(), [(id, "main".to_owned(), 90, 33, 0)]);
    real.daemon.ctl(&["vm", "delete", "web", "--force", "--workspaces", "--yes"]).await;
}
