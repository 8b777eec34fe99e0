//! What the guest's agent says on its control connection: the handshake, and answers to every call that the host has.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use nexus_fuzz::{Guest, assert_plain, opened_stream};
use nexus_protocol::{Command, CopyOut, Features, OpenTerminal, ShutdownMode, TerminalSize, Welcome, WriteFile};

const DEADLINE: Duration = Duration::from_secs(5);

thread_local! {
    static GUEST: Guest = Guest::new();
}

fuzz_target!(|control: &[u8]| {
    GUEST.with(|guest| {
        guest.play(control, &opened_stream(), async |connected| {
            let Ok((agent, welcome, mut events)) = connected else { return };
            check(&welcome);
            let command = Command { argv: vec!["true".to_owned()], ..Command::default() };
            let (_, execs, ..) =
                tokio::join!(agent.ping(), agent.list_execs(), agent.wait_exec(7), agent.run(&command));
            for exec in execs.iter().flatten() {
                exec.argv.iter().for_each(|word| assert_plain(word));
                if let Some(name) = exec.terminal.as_ref().and_then(|terminal| terminal.name.as_ref()) {
                    assert_plain(name);
                }
            }
            let _ = agent.exec(&command, None).await;
            let _ = agent.detach(&command).await;
            let _ = agent.open_terminal(OpenTerminal { command, ..OpenTerminal::default() }).await;
            let _ = agent.open_tools(Default::default(), None).await;
            let _ = agent.resize_exec(7, TerminalSize::default()).await;
            let _ = agent.signal_exec(7, 9).await;
            let _ = agent.read_file("/etc/hostname", 0).await;
            let _ = agent.write_file(WriteFile { path: "/tmp/file".to_owned(), ..WriteFile::default() }).await;
            let _ = agent.delete_file("/tmp/file", false).await;
            let _ = agent.copy_out(CopyOut { path: "/srv".to_owned() }, None).await;
            let _ = agent.list_streams().await;
            let _ = agent.wait_stream(3).await;
            let _ = agent.close_stream(3).await;
            let _ = agent.freeze(DEADLINE).await;
            let _ = agent.refresh(DEADLINE).await;
            let failed = agent.shutdown(ShutdownMode::Reboot).await;
            if let Err(error) = failed {
                assert_plain(&error.to_string());
            }
            drop(agent);
            while events.recv().await.is_some() {}
        });
    });
});

fn check(welcome: &Welcome) {
    let Welcome { agent_version, run_id, boot_id, hostname, os_name, os_version, metadata_problem, .. } = welcome;
    for text in [agent_version, run_id, boot_id, hostname, os_name, os_version].into_iter().chain(metadata_problem) {
        assert_plain(text);
    }
    for text in welcome.metadata.iter().flat_map(|(key, value)| [key, value]) {
        assert_plain(text);
    }
    welcome.features.words().for_each(assert_plain);
    assert!(welcome.metadata.len() <= Welcome::MAX_METADATA && welcome.addresses.len() <= Welcome::MAX_ADDRESSES);
    let bytes: usize = welcome.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(bytes <= Welcome::MAX_METADATA_BYTES);
    assert!(welcome.features.words().count() <= Features::MAX);
}
