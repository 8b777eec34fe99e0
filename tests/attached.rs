//! The programs that people have on their terminals, in a real VM, through `nexusctl attach` in a terminal of tmux.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use nexus_tests::{GuestParts, REAL_PATIENCE, TestDaemon, Tmux};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const SIZE: (u16, u16) = (100, 30);

/// A daemon with a VM `web` that has Debian's programs; none where the parts of it are not there.
async fn debian() -> Option<TestDaemon> {
    let parts = GuestParts::debian().filter(|_| Tmux::is_there())?;
    Some(TestDaemon::with_real_vm(&parts, &[]).await)
}

/// Somebody who attaches, once the prompt of the guest's bash is there.
async fn attach(daemon: &TestDaemon, more: &[&str]) -> Tmux {
    let arguments = [&["attach", "web"], more].concat();
    let person = Tmux::run(daemon.nexusctl(&arguments).as_std(), SIZE, REAL_PATIENCE);
    person.shows("a prompt", is_prompt).await;
    person
}

/// What is typed while a program ends is the kernel's to pass on to the shell or to drop: nobody types ahead here.
fn is_prompt(screen: &str) -> bool {
    screen.trim_end().ends_with('#')
}

/// Reads a file in the guest.
async fn read(daemon: &TestDaemon, path: &str) -> String {
    daemon.ctl(&["exec", "web", "--", "cat", path]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn vim_less_and_top_are_as_in_a_local_terminal() {
    let Some(daemon) = debian().await else { return };
    let person = attach(&daemon, &[]).await;

    person.enters("vim /root/note");
    person.sees("[New]").await;
    person.types("iDer Bär");
    person.keys(&["Enter"]);
    person.types("wohnt hier");
    person.keys(&["Escape"]);
    person.shows("the text", |screen| screen.starts_with("Der Bär\nwohnt hier\n~\n")).await;
    person.enters(":w");
    person.sees("written").await;
    assert_eq!(read(&daemon, "/root/note").await, "Der Bär\nwohnt hier\n");
    // All of the new size is vim's.
    person.resize(60, 20);
    person.shows("20 rows", |screen| screen.lines().filter(|line| *line == "~").count() == 17).await;
    person.enters(":set columns? lines?");
    person.sees("lines=20").await;
    person.enters(":q");
    person
        .shows("the screen behind vim", |screen| {
            screen.contains("# vim /root/note") && !screen.contains("wohnt") && is_prompt(screen)
        })
        .await;
    person.enters("stty size");
    person.shows("a prompt", |screen| screen.contains("20 60") && is_prompt(screen)).await;
    person.resize(SIZE.0, SIZE.1);

    person.enters("seq 1 5000 | less");
    person.shows("the first page", |screen| screen.starts_with("1\n2\n")).await;
    person.keys(&["Space"]);
    person.shows("the second page", |screen| screen.starts_with("30\n31\n")).await;
    person.types("G");
    person.shows("the last page", |screen| screen.contains("5000\n(END)")).await;
    person.enters("?1234");
    person.shows("what was looked for", |screen| screen.starts_with("1234\n")).await;
    person.types("q");
    person
        .shows("the screen behind less", |screen| {
            screen.contains("| less") && !screen.contains("1240") && is_prompt(screen)
        })
        .await;

    person.enters("top");
    person.shows("tasks", |screen| screen.contains("load average:") && screen.contains("kthreadd")).await;
    person.types("h");
    person.sees("Help for Interactive Commands").await;
    person.keys(&["Escape"]);
    person.shows("tasks again", |screen| screen.contains("load average:")).await;
    person.keys(&["C-z"]);
    person.shows("a prompt behind it", |screen| screen.contains("Stopped") && is_prompt(screen)).await;
    person.enters("fg");
    let is_running = |screen: &str| !screen.trim_end().ends_with('#') && screen.contains("load average:");
    person.shows("tasks in the foreground", is_running).await;
    person.types("q");
    person.shows("a prompt", is_prompt).await;

    // Only the shell's answer says that it is not at its prompt any more, where ^C would find nothing to end.
    person.enters("echo asl''eep; sleep 1000");
    person.sees("asleep").await;
    person.keys(&["C-c"]);
    person.shows("a prompt behind ^C", |screen| screen.contains("^C") && is_prompt(screen)).await;
    person.enters("echo ended with $?; cat");
    person.sees("ended with 130").await;
    person.keys(&["C-d"]);
    person.shows("a prompt", is_prompt).await;
    person.enters("printf '\\033[38;5;208morange\\033[m\\n'; exit 7");
    assert_eq!(person.exits().await, Some(7));
    assert!(person.screen().contains("orange"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_left_and_found_again_whatever_ends_meanwhile() {
    let Some(daemon) = debian().await else { return };
    let person = attach(&daemon, &["--name", "work"]).await;
    person.enters("seq 1 200");
    person.shows("the last line", |screen| screen.contains("200\n")).await;
    person.keys(&["C-]"]);
    person.types("d");
    assert_eq!(person.exits().await, Some(0));
    assert!(person.screen().contains("Left terminal work in VM web."), "{}", person.screen());
    drop(person);

    // What has scrolled away is there, once.
    let person = attach(&daemon, &["--name", "work"]).await;
    let lines: Vec<String> = person.history().lines().map(str::to_owned).collect();
    for number in [1, 100, 171, 200] {
        assert_eq!(lines.iter().filter(|line| **line == number.to_string()).count(), 1, "{number} in {lines:?}");
    }
    // In front of the screen there is vim's, and neither needs the daemon.
    person.enters("vim /root/draft");
    person.sees("[New]").await;
    let daemon = daemon.replace().await;
    person.types("ikept");
    person.sees("kept").await;
    kill(Pid::from_raw(person.pid()), Signal::SIGKILL).unwrap();
    person.exits().await;
    drop(person);

    let again = Tmux::run(daemon.nexusctl(&["attach", "web", "--name", "work"]).as_std(), SIZE, REAL_PATIENCE);
    again.shows("vim's screen", |screen| screen.starts_with("kept\n~\n")).await;
    again.keys(&["Escape"]);
    again.enters(":wq");
    // The screen behind vim was never drawn for this viewer before.
    again
        .shows("the screen behind vim", |screen| screen.contains("\n200\n") && screen.contains("# vim /root/draft"))
        .await;
    assert_eq!(read(&daemon, "/root/draft").await, "kept\n");
    again.shows("a prompt", is_prompt).await;
    again.keys(&["C-d"]);
    assert_eq!(again.exits().await, Some(0));
    assert!(daemon.ctl(&["attach", "web", "--list"]).await.contains("No terminals are open"));
}
