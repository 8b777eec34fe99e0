//! docs/actors.md against what the tree is made of.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use nexus_host::{
    storage,
    unit::Keeper,
    vmm::{VmmConfig, Vmms},
};
use nexus_model::{BackendKind, Name, Timestamp, WorkspaceState};
use nexus_store::{Bounds, Store, WorkspaceRow};

use crate::{
    Engine, Folders, Settings,
    engine::bus_child,
    snapshot::ManagerSnapshot,
    supervisor::{ChildSpec, GiveUp},
    vm::{self, VmContext, random_id},
    workspace,
};

/// A file of the repository.
fn read(path: &str) -> String {
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    fs::read_to_string(repository.join(path)).unwrap()
}

/// Everything that the root's children are made from, with nothing of it running.
async fn engine(root: &tempfile::TempDir) -> Engine {
    let path = |name: &str| root.path().join(name);
    let database = path("nexus.db");
    let instance = Store::open(&database).unwrap().instance();
    let folders =
        Folders { data: path("data"), workspaces: path("workspaces"), logs: path("logs"), runtime: path("run") };
    let vmm = VmmConfig::default();
    let vmms = Vmms::detect(&vmm);
    let storage = storage::detect(&folders.workspaces, Some(BackendKind::Copy)).unwrap();
    let manager = ManagerSnapshot {
        vmm_available: vmms.available(),
        storage_path: folders.workspaces.clone(),
        storage_backend: BackendKind::Copy,
        database_path: database.clone(),
        schema_version: 0,
        table_count: 0,
        default_kernel: None,
        draining: false,
    };
    let settings = Settings {
        instance,
        folders,
        database,
        agent: path("guest-agent"),
        vmm,
        allowed_paths: Vec::new(),
        stop_timeout: Duration::ZERO,
        autostart_parallel: 1,
        console_max_bytes: 0,
        heartbeat: Duration::from_secs(10),
        job_retention: Duration::ZERO,
        history: Bounds::default(),
        orphan_grace: Duration::ZERO,
        slept: nexus_host::process::slept,
    };
    Engine::assemble(settings, manager, vmms, Keeper::detect(path("nexus-shim"), None).await, storage)
}

/// Every kind of actor but the root: its place, and how it is started.
async fn actors(root: &tempfile::TempDir) -> Vec<(String, ChildSpec)> {
    let engine = engine(root).await;
    let name: Name = "name".parse().unwrap();
    let vm = Arc::new(VmContext::new(random_id().unwrap(), name.clone()));
    let disk = engine.claim_workspace(&WorkspaceRow {
        id: random_id().unwrap(),
        name,
        label: String::new(),
        state: WorkspaceState::Ready,
        failure: None,
        backend: BackendKind::Copy,
        path: PathBuf::new(),
        size_bytes: 0,
        read_only: false,
        base: None,
        vm: None,
        owner: None,
        created_at: Timestamp::NEVER,
        attached_at: Timestamp::NEVER,
        detached_at: Timestamp::NEVER,
    });
    let bus = bus_child(ChildSpec::new("bus", |_| async { unreachable!("nobody starts it") }));
    let below = |above: &str, spec: ChildSpec| (format!("{above}/{}", spec.name), spec);
    let mut all: Vec<_> = engine.children().into_iter().chain([bus]).map(|spec| below("root", spec)).collect();
    all.push(("root/workspaces/<name>".to_owned(), workspace::child_spec(&engine, &disk.unwrap())));
    all.push(("root/vms/<name>".to_owned(), vm::child_spec(&engine, &vm)));
    all.extend(vm::children(&engine, &vm).into_iter().map(|spec| below("root/vms/<name>", spec)));
    all.extend(vm::connections(&engine, &vm).into_iter().map(|spec| below("root/vms/<name>/connections", spec)));
    all.push(("root/vms/<name>/connections/connection-<n>".to_owned(), vm::stream(&engine, &vm)));
    all
}

fn time(duration: Duration) -> String {
    match (duration.as_millis(), duration.as_secs()) {
        (ms, _) if ms % 1000 != 0 => format!("{ms} ms"),
        (_, s) if s > 60 && s % 60 == 0 => format!("{} min", s / 60),
        (_, s) => format!("{s} s"),
    }
}

/// What the table says of an actor that is started so.
fn figures(spec: &ChildSpec) -> String {
    let after = match &spec.give_up {
        GiveUp::Escalate => "escalates".to_owned(),
        GiveUp::Mark(health) => format!("`{health}`"),
        GiveUp::Retry { every, health } => format!("`{health}`, tried every {}", time(*every)),
    };
    let (backoff, intensity) = (spec.backoff, spec.intensity);
    let (initial, max, window) = (time(backoff.initial), time(backoff.max), time(intensity.window));
    format!("{initial} → {max}; {} in {window}: {after}", intensity.max)
}

#[tokio::test]
async fn what_the_table_says_of_actors_is_what_they_are_started_with() {
    let text = read("docs/actors.md");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `root"))
        .map(|row| row.trim_end_matches(" |").split(" | ").collect())
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let actors = actors(&folder).await;
    assert_eq!(rows.len(), actors.len() + 1, "each actor has a row, and so has the root");
    for (place, spec) in actors {
        let first = format!("{}`", place.trim_start_matches("root"));
        let row = rows.iter().find(|row| row[0] == first).unwrap_or_else(|| panic!("{place} has no row"));
        let (said, is) = (row[3], figures(&spec));
        let rest = said.strip_prefix(&is).unwrap_or_else(|| panic!("{place} is said to have `{said}` and has `{is}`"));
        assert!(rest.is_empty() || rest.starts_with(", the VMM runs on"), "{place}: {rest}");
        assert!((spec.backoff.jitter - 0.2).abs() < f64::EPSILON, "{place}: {}", spec.backoff.jitter);
    }
}

/// The variants of an enum, in their order.
fn variants(source: &str, name: &str) -> Vec<String> {
    let (_, body) = source.split_once(&format!("enum {name} {{\n")).unwrap_or_else(|| panic!("no enum {name}"));
    let word = |line: &str| -> String { line.chars().take_while(char::is_ascii_alphanumeric).collect() };
    let lines = body.lines().take_while(|line| *line != "}").filter_map(|line| line.strip_prefix("    "));
    lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase())).map(word).collect()
}

/// The messages that a section of the page has a row for, in their order.
fn messages(page: &str, section: &str) -> Vec<String> {
    let (_, text) = page.split_once(&format!("\n### {section}\n")).unwrap_or_else(|| panic!("no section {section}"));
    let text = text.split("\n##").next().unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(message, _)| message.to_owned()).collect()
}

#[test]
fn each_actor_has_its_messages_on_the_page() {
    let page = read("docs/actors.md");
    for (section, file, name) in [
        ("Supervisors", "actors/src/supervisor/message.rs", "SupervisorMessage"),
        ("`root/assets`", "actors/src/asset/mod.rs", "AssetMessage"),
        ("`root/images`", "actors/src/image/mod.rs", "ImageMessage"),
        ("`root/workspaces/<name>`", "actors/src/workspace/mod.rs", "WorkspaceMessage"),
        ("`root/vms/<name>/machine`", "actors/src/vm/machine/message.rs", "MachineMessage"),
        ("`root/vms/<name>/connections/connection-1`", "actors/src/vm/connection.rs", "ConnectionMessage"),
        ("`root/vms/<name>/connections/connection-<n>`", "actors/src/vm/stream.rs", "StreamMessage"),
        ("`root/jobs`", "actors/src/jobs.rs", "JobMessage"),
        ("`root/reaper`", "actors/src/reaper/mod.rs", "ReaperMessage"),
        ("`root/bus`", "nexusd/src/bus.rs", "BusMessage"),
    ] {
        assert_eq!(messages(&page, section), variants(&read(file), name), "{section}");
    }
}

#[tokio::test]
async fn each_actor_has_a_section_on_the_page() {
    let page = read("docs/actors.md");
    let section = |name: &str| page.split_once(&format!("\n### {name}\n")).unwrap().1.split("\n##").next().unwrap();
    let shared = ["Supervisors", "Spare connections"].map(section);
    let folder = tempfile::tempdir().unwrap();
    for (place, _) in actors(&folder).await {
        let own = page.contains(&format!("\n### `{place}`\n"));
        let is_in_one = shared.iter().any(|section| section.contains(&format!("`{place}`")));
        assert!(own || is_in_one, "{place} has no section");
    }
}
