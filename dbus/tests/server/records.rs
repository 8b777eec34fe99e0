//! Who asked for what, and what happened, as lines over a descriptor.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use nexus_dbus::{
    LOG_CONTROL, ROOT,
    client::{GuestProxy, JobProxy, ManagerProxy, Options, VmProxy},
};
use nexus_model::ErrorKind;
use serde_json::{Value, json};
use zbus::{ObjectPath, Structure, Variant};

use crate::{
    fixture::{Fixture, LONG, one_of_everything},
    xml,
};

/// What must never be found anywhere.
const SECRET: &str = "hunter2-hunter2";

async fn manager(fixture: &Fixture) -> ManagerProxy<'static> {
    ManagerProxy::new(&fixture.client).await.unwrap()
}

fn process() -> Options<'static> {
    Options::from([("vmm", Variant::from("process"))])
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn read(descriptor: zbus::OwnedFd) -> Vec<Value> {
    let mut file = File::from(OwnedFd::from(descriptor));
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        file.read_to_string(&mut text).map(|_| text)
    });
    lines(&read.await.unwrap().unwrap())
}

async fn audit(fixture: &Fixture, options: Options<'_>) -> Vec<Value> {
    read(manager(fixture).await.open_audit(options).await.unwrap()).await
}

async fn events(fixture: &Fixture, options: Options<'_>) -> Vec<Value> {
    read(manager(fixture).await.open_events(options).await.unwrap()).await
}

/// Some keys of each, as text.
fn told(rows: &[Value], keys: &[&str]) -> Vec<String> {
    let text = |row: &Value, key: &str| row[key].as_str().map_or_else(|| row[key].to_string(), str::to_owned);
    rows.iter().map(|row| keys.iter().map(|key| text(row, key)).collect::<Vec<_>>().join(" ")).collect()
}

async fn vm(fixture: &Fixture, name: &str, options: Options<'_>) -> VmProxy<'static> {
    let path = manager(fixture).await.create_vm(name, options).await.unwrap();
    VmProxy::builder(&fixture.client).path(path).build().await.unwrap()
}

async fn done(fixture: &Fixture, job: zbus::OwnedObjectPath) {
    JobProxy::builder(&fixture.client).path(job).build().await.unwrap().wait().await.unwrap();
}

#[tokio::test]
async fn every_change_is_a_row_with_what_was_before_and_after() {
    let fixture = Fixture::with(|_| ()).await;
    let web = vm(&fixture, "web", process()).await;
    done(&fixture, web.start(Options::from([("reason", "a test".into())])).await.unwrap()).await;
    web.pause().await.unwrap();
    assert!(web.pause().await.is_err());
    web.set_label("A label").await.unwrap();
    assert!(web.set_restart_policy("never").await.is_err());
    web.kill().await.unwrap();
    done(&fixture, web.remove(Options::new()).await.unwrap()).await;
    assert!(manager(&fixture).await.start_vm("web", Options::new()).await.is_err());
    // What only reads is no row.
    manager(&fixture).await.list_vms().await.unwrap();

    let rows = audit(&fixture, Options::new()).await;
    assert_eq!(
        told(&rows, &["subject", "member", "before", "job", "result"]),
        [
            "vm/web CreateVm  0 ok",
            "vm/web Start created 1 ok",
            "vm/web Pause running 0 ok",
            "vm/web Pause paused 0 org.workfort.Nexus1.Error.InvalidState",
            "vm/web Label paused 0 ok",
            "vm/web RestartPolicy paused 0 org.freedesktop.DBus.Error.InvalidArgs",
            "vm/web Kill paused 0 ok",
            "vm/web Remove stopped 2 ok",
            "vm/web StartVm  0 org.workfort.Nexus1.Error.NotFound",
        ]
    );
    // What a job goes on with may have changed something by the time of the answer, or not.
    let at_once: Vec<Value> = rows.iter().filter(|row| row["job"] == 0).cloned().collect();
    let after = ["created", "paused", "paused", "paused", "paused", "stopped", ""];
    assert_eq!(told(&at_once, &["after"]), after);
    assert_eq!(rows[0]["arguments"], json!({ "name": "web", "options": { "vmm": "process" } }));
    assert_eq!(rows[4]["arguments"], json!({ "value": "A label" }));
    assert_eq!((rows[1]["caller_reason"].as_str(), rows[0]["caller_reason"].as_str()), (Some("a test"), Some("")));
    assert!(rows[3]["message"].as_str().unwrap().contains("paused"), "{}", rows[3]);
    let id = rows[0]["vm_id"].as_str().unwrap();
    for row in &rows[..8] {
        assert_eq!((row["vm"].as_str(), row["vm_id"].as_str()), (Some("web"), Some(id)), "{row}");
        assert!(row["took_usec"].as_u64() > Some(0) && row["request"].as_str().unwrap().len() == 16, "{row}");
        // Between peers there is no bus to ask.
        assert_eq!((row["sender"].as_str(), row["pid"].as_u64()), (Some("peer"), Some(0)), "{row}");
    }
    // Of what is gone, by its id and by its name.
    let by_id = audit(&fixture, Options::from([("vm", id.into())])).await;
    assert_eq!(by_id.len(), 8);
    assert_eq!(audit(&fixture, Options::from([("vm", "web".into()), ("limit", 2_u32.into())])).await, rows[7..]);
}

#[tokio::test]
async fn what_happened_is_told_after_the_vm_is_gone() {
    let fixture = Fixture::with(|_| ()).await;
    let web = vm(&fixture, "web", process()).await;
    let other = vm(&fixture, "other", process()).await;
    done(&fixture, web.start(Options::new()).await.unwrap()).await;
    web.kill().await.unwrap();
    done(&fixture, web.remove(Options::new()).await.unwrap()).await;
    done(&fixture, other.remove(Options::new()).await.unwrap()).await;
    let rows = events(&fixture, Options::from([("vm", "web".into())])).await;
    assert_eq!(
        told(&rows, &["subject", "kind", "from", "to", "reason"]),
        [
            "vm/web vm-created   ",
            "vm/web vm-state created starting requested",
            "vm/web vm-state starting running vmm-started",
            "job/1 job-ended running done start-vm",
            "vm/web vm-state running stopping requested",
            "vm/web vm-state stopping stopped killed",
            "vm/web vm-removed   ",
            "job/2 job-ended running done remove-vm",
        ]
    );
    let all = events(&fixture, Options::new()).await;
    assert_eq!(told(&all[..1], &["subject", "kind"]), ["daemon daemon-started"]);
    assert!(told(&all, &["subject", "kind"]).contains(&"vm/other vm-removed".to_owned()));
    let last = events(&fixture, Options::from([("limit", 1_u32.into())])).await;
    assert_eq!(last, all[all.len() - 1..]);
    let since = rows[3]["at_usec"].as_u64().unwrap();
    let later = events(&fixture, Options::from([("since", since.into())])).await;
    assert!(later.iter().all(|row| row["at_usec"].as_u64() >= Some(since)) && later.len() < all.len());
    assert!(events(&fixture, Options::from([("until", 1_u64.into())])).await.is_empty());
}

#[tokio::test]
async fn no_secret_is_written_anywhere() {
    let fixture = Fixture::with(|_| ()).await;
    let env = || Variant::from(HashMap::from([("TOKEN", SECRET)]));
    let options = Options::from([("vmm", "process".into()), ("env", env())]);
    let web = vm(&fixture, "web", options).await;
    // Refused, and mistyped.
    let manager = manager(&fixture).await;
    assert!(manager.create_vm("web", Options::from([("env", env())])).await.is_err());
    assert!(manager.create_vm("b", Options::from([("environment", env())])).await.is_err());
    assert!(manager.create_vm("b", Options::from([("env", SECRET.into())])).await.is_err());
    done(&fixture, web.start(Options::new()).await.unwrap()).await;
    fixture.engine.wait(&"web".parse().unwrap(), |vm| vm.guest.is_some()).await;
    fixture.board().flushed().await;
    let guest = GuestProxy::builder(&fixture.client).path(web.inner().path().clone()).build().await.unwrap();
    let script = ["sh", "-c", "test \"$TOKEN\""];
    assert_eq!(guest.run(&script, Options::from([("env", env())])).await.unwrap().0, 0);
    let rows = audit(&fixture, Options::new()).await;
    assert_eq!(rows[0]["arguments"]["options"]["env"], json!({ "TOKEN": "***" }));
    let run = rows.last().unwrap();
    assert_eq!((run["member"].as_str(), &run["arguments"]["argv"][0]), (Some("Run"), &json!("sh")));
    assert_eq!(run["arguments"]["options"], json!({ "env": { "TOKEN": "***" } }));
    let text = format!("{rows:?}{:?}", events(&fixture, Options::new()).await);
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test]
async fn whoever_follows_gets_each_row_once_it_is_whole() {
    let fixture = Fixture::with(|_| ()).await;
    let _first = vm(&fixture, "first", process()).await;
    let manager = manager(&fixture).await;
    let follow = || Options::from([("follow", true.into()), ("limit", 1_u32.into())]);
    let (calls, told) = std::sync::mpsc::channel();
    for list in [manager.open_audit(follow()).await.unwrap(), manager.open_events(follow()).await.unwrap()] {
        let stream = BufReader::new(UnixStream::from(OwnedFd::from(list)));
        let calls = calls.clone();
        // Ends with the stream, which is shut when nobody listens any more.
        std::thread::spawn(move || {
            for line in stream.lines() {
                let Ok(line) = line else { return };
                if calls.send(serde_json::from_str::<Value>(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
    }
    let next = move || told.recv_timeout(LONG).unwrap();
    let (next, mut both) = tokio::task::spawn_blocking(move || {
        let both = [next(), next()];
        (next, both)
    })
    .await
    .unwrap();
    both.sort_by_key(|row| row["kind"].is_null());
    assert_eq!((both[0]["kind"].as_str(), both[1]["member"].as_str()), (Some("vm-created"), Some("CreateVm")));
    assert!(manager.start_vm("nobody", Options::new()).await.is_err());
    let second = vm(&fixture, "second", process()).await;
    let rows = tokio::task::spawn_blocking(move || [next(), next(), next()]).await.unwrap();
    let mut kinds: Vec<&str> =
        rows.iter().map(|row| row["kind"].as_str().or(row["member"].as_str()).unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["CreateVm", "StartVm", "vm-created"]);
    assert!(rows.iter().all(|row| row["result"] != ""), "{rows:?}");
    drop(second);
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_nobody_up() {
    let fixture = Fixture::with(|_| ()).await;
    let manager = manager(&fixture).await;
    let slow = manager.open_audit(Options::from([("follow", true.into())])).await.unwrap();
    let long = "x".repeat(250);
    // More than a socket takes.
    for number in 0..600 {
        let options = Options::from([("reason", Variant::from(format!("{number}"))), ("x-long", long.as_str().into())]);
        assert!(manager.stop_vm("nobody", options).await.is_err());
    }
    assert_eq!(audit(&fixture, Options::new()).await.len(), 600);
    // It gets everything once it reads.
    let mut stream = BufReader::new(UnixStream::from(OwnedFd::from(slow)));
    let lines = tokio::task::spawn_blocking(move || {
        let mut reasons = Vec::new();
        for _ in 0..600 {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            reasons.push(serde_json::from_str::<Value>(&line).unwrap()["caller_reason"].as_str().unwrap().to_owned());
        }
        reasons
    });
    let numbers: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    assert_eq!(lines.await.unwrap(), numbers);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let fixture = Fixture::with(|_| ()).await;
    let manager = manager(&fixture).await;
    for options in [
        Options::from([("follow", true.into()), ("until", 1_u64.into())]),
        Options::from([("vm", "".into())]),
        Options::from([("since", "yesterday".into())]),
        Options::from([("tail", 1_u32.into())]),
    ] {
        let error = manager.open_events(options).await.unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::InvalidArgs), "{error}");
    }
}

/// Something of that type, which means nothing.
fn nothing_of(signature: &str) -> Variant<'static> {
    match signature {
        "s" => "".into(),
        "b" => false.into(),
        "u" => 0_u32.into(),
        "t" => 0_u64.into(),
        "i" => 0_i32.into(),
        "o" => ObjectPath::from_static_str("/").unwrap().into(),
        "as" => vec![""].into(),
        "ay" => Vec::<u8>::new().into(),
        "a{sv}" => HashMap::<&str, Variant<'_>>::new().into(),
        other => panic!("say here what nothing of `{other}` is"),
    }
}

/// A method or a property that forgets the audit fails here.
#[tokio::test]
async fn whatever_may_change_something_is_a_row() {
    let fixture = Fixture::with(one_of_everything).await;
    let reads = |method: &str| {
        let only_reads = ["Get", "List", "Open", "Read", "Wait"].iter().any(|verb| method.starts_with(verb));
        // Each of the many sizes of a window that is dragged would be a row.
        only_reads || ["CheckHost", "ResizeExec"].contains(&method)
    };
    let objects = |interface: &str| match interface.strip_prefix("org.workfort.Nexus1.") {
        None => LOG_CONTROL.to_owned(),
        Some("Manager") => ROOT.to_owned(),
        Some("Vm" | "Guest" | "Supervised") => format!("{ROOT}/vm/web"),
        Some("Workspace") => format!("{ROOT}/workspace/disk"),
        Some("Image") => format!("{ROOT}/image/alpine_2d3_2e20"),
        Some("Asset") => format!("{ROOT}/asset/kernel_2d6_2e1"),
        Some("Job") => format!("{ROOT}/job/2"),
        Some("Connection") => format!("{ROOT}/vm/web/connection/1"),
        Some("Supervisor") => format!("{ROOT}/supervisor/vms"),
        Some(other) => panic!("say here which object has {other}"),
    };
    let mut called = Vec::new();
    for (interface, shape) in xml::contract() {
        let path = objects(&interface);
        for (method, arguments) in shape.methods.iter().filter(|(method, _)| !reads(method)) {
            let given = arguments.iter().filter(|argument| !argument.out);
            let body =
                given.fold(Structure::builder(), |body, argument| body.append_field(nothing_of(&argument.signature)));
            let (client, path) = (&fixture.client, path.as_str());
            let (interface, method) = (Some(interface.as_str()), method.as_str());
            // Refused or not. A structure has at least one field.
            let _ = match body.build() {
                Ok(body) => client.call_method(None::<&str>, path, interface, method, &body).await,
                Err(_) => client.call_method(None::<&str>, path, interface, method, &()).await,
            };
            called.push(method.to_owned());
            is_last(&fixture, &called).await;
        }
        for (name, property) in shape.properties.iter().filter(|(_, property)| property.access.contains("write")) {
            let value = nothing_of(&property.signature);
            let body = (interface.as_str(), name.as_str(), value);
            let set = Some("org.freedesktop.DBus.Properties");
            // Refused or not.
            let _ = fixture.client.call_method(None::<&str>, path.as_str(), set, "Set", &body).await;
            called.push(name.clone());
            is_last(&fixture, &called).await;
        }
    }
    assert!(called.len() > 25, "{called:?}");
}

/// The last of these calls is told of, and no other since.
async fn is_last(fixture: &Fixture, called: &[String]) {
    let rows = audit(fixture, Options::new()).await;
    let last = (rows.len(), rows.last().map(|row| row["member"].clone()));
    assert_eq!(last, (called.len(), called.last().map(|member| json!(member))));
    assert!(rows.iter().all(|row| row["result"] != ""), "{rows:?}");
}
