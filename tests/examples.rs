//! Every example of the documentation, run against a live daemon.
//!
//! An example is a line that begins with `busctl --user` in a fenced block marked `sh`, or a block marked `python`, in
//! README.md or docs/*.md. What the examples may rely on: a VM `web` that runs.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use nexus_tests::{PATIENCE, TestDaemon};
use tokio::{process::Command, time::timeout};

/// An example, and where it stands.
#[derive(Debug)]
struct Example {
    place: String,
    command: String,
}

fn documents() -> Vec<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut documents = vec![repository.join("README.md")];
    let folder = fs::read_dir(repository.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    documents.extend(folder.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    documents.sort();
    documents
}

/// Lines of one command that ends with `\` are one.
fn commands(document: &str, name: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let (mut shell, mut goes_on) = (false, false);
    for (index, line) in document.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            shell = !shell && language == "sh";
            goes_on = false;
        } else if shell && goes_on {
            let example = found.last_mut().unwrap();
            example.command.push('\n');
            example.command.push_str(line);
            goes_on = line.ends_with('\\');
        } else if shell && line.starts_with("busctl --user") {
            found.push(Example { place: format!("{name}:{}", index + 1), command: line.to_owned() });
            goes_on = line.ends_with('\\');
        }
    }
    found
}

/// The whole blocks.
fn programs(document: &str, name: &str) -> Vec<Example> {
    let blocks = document.split("\n```python\n").skip(1).map(|rest| rest.split_once("\n```\n").unwrap().0);
    blocks.map(|program| Example { place: format!("a program in {name}"), command: program.to_owned() }).collect()
}

#[test]
fn examples_are_found_as_they_are_written() {
    let text = "```sh\nbusctl --user tree a\nls\n```\n```\nbusctl --user b\n```\n```sh\nbusctl --user \\\n  c\n```\n";
    let found = commands(text, "a.md");
    let lines: Vec<(&str, &str)> = found.iter().map(|one| (one.place.as_str(), one.command.as_str())).collect();
    assert_eq!(lines, [("a.md:2", "busctl --user tree a"), ("a.md:9", "busctl --user \\\n  c")]);
}

fn all(find: fn(&str, &str) -> Vec<Example>) -> Vec<Example> {
    let found = documents()
        .into_iter()
        .flat_map(|path| find(&fs::read_to_string(&path).unwrap(), &path.file_name().unwrap().to_string_lossy()));
    found.collect()
}

/// What an example prints, which is no error.
async fn run(daemon: &TestDaemon, interpreter: &str, Example { place, command }: &Example) -> String {
    let mut shell = Command::new(interpreter);
    shell.args(["-c", command]).env("DBUS_SESSION_BUS_ADDRESS", daemon.bus.address()).kill_on_drop(true);
    let output = timeout(PATIENCE, shell.output()).await.expect("it ends").unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{place}: {command}\n{out}{err}");
    out.into_owned()
}

#[tokio::test]
async fn every_command_works() {
    let all = all(commands);
    assert!(all.len() >= 3, "the documentation has hardly any example: {all:?}");
    let daemon = TestDaemon::start().await;
    daemon.run("web", []).await;
    for example in all {
        let printed = run(&daemon, "sh", &example).await;
        assert!(!printed.is_empty() || example.command.contains(" call "), "{}: it prints nothing", example.place);
    }
}

#[tokio::test]
async fn every_program_works() {
    // Not the first of the path: the distribution's has its packages.
    let python = "/usr/bin/python3";
    if !Command::new(python).args(["-c", "import gi"]).status().await.is_ok_and(|status| status.success()) {
        nexus_tests::not_run("Python has no GLib: install python3-gi");
        return;
    }
    let all = all(programs);
    assert!(!all.is_empty(), "the documentation has no program");
    let daemon = TestDaemon::start().await;
    daemon.run("web", []).await;
    for program in all {
        run(&daemon, python, &program).await;
    }
}
