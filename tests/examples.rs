//! Every `busctl` example of the documentation, run against a live daemon.
//!
//! An example is a line that begins with `busctl --user` in a fenced block marked `sh`, in README.md or docs/*.md. What
//! the examples may rely on: a VM `web` that runs.

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
fn examples(document: &str, name: &str) -> Vec<Example> {
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

#[test]
fn examples_are_found_as_they_are_written() {
    let text = "```sh\nbusctl --user tree a\nls\n```\n```\nbusctl --user b\n```\n```sh\nbusctl --user \\\n  c\n```\n";
    let found = examples(text, "a.md");
    let lines: Vec<(&str, &str)> = found.iter().map(|one| (one.place.as_str(), one.command.as_str())).collect();
    assert_eq!(lines, [("a.md:2", "busctl --user tree a"), ("a.md:9", "busctl --user \\\n  c")]);
}

#[tokio::test]
async fn every_example_works() {
    let all: Vec<Example> = documents()
        .iter()
        .flat_map(|path| examples(&fs::read_to_string(path).unwrap(), &path.file_name().unwrap().to_string_lossy()))
        .collect();
    assert!(all.len() >= 3, "the documentation has hardly any example: {all:?}");
    let daemon = TestDaemon::start().await;
    daemon.run("web", []).await;
    for Example { place, command } in all {
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).env("DBUS_SESSION_BUS_ADDRESS", daemon.bus.address()).kill_on_drop(true);
        let output = timeout(PATIENCE, shell.output()).await.expect("busctl ends").unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && err.is_empty(), "{place}: {command}\n{out}{err}");
        assert!(!out.is_empty() || command.contains(" call "), "{place}: {command} prints nothing");
    }
}
