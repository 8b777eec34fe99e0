//! `run_command`.

use std::{cell::RefCell, collections::BTreeMap, num::NonZeroU64, time::Duration};

use nexus_mcp::{Progress, Ran, Reply, RunCommand};
use nexus_model::ExitStatus;
use nexus_protocol::{Command, Ended};
use tokio::{sync::Notify, time::sleep};

use super::output::{Kept, Outputs};
use crate::{agent::Agent, exec};

/// Between two notifications of progress.
const NEWS_INTERVAL: Duration = Duration::from_millis(50);

/// Runs a command to its end, and kills it with everything that it started when the future is dropped.
pub(super) async fn run(
    arguments: RunCommand,
    progress: Option<Progress>,
    agent: &Agent,
    session: &BTreeMap<String, String>,
) -> Result<Reply, String> {
    if agent.ending().is_some() {
        return Err("the guest is going down".to_owned());
    }
    let argv = match (arguments.argv, arguments.script) {
        (Some(argv), None) => argv,
        (None, Some(script)) => vec!["/bin/sh".to_owned(), "-c".to_owned(), script],
        _ => return Err("give either argv or script".to_owned()),
    };
    let mut env = session.clone();
    env.extend(arguments.env);
    let RunCommand { cwd, user, timeout_ms, .. } = arguments;
    let command = Command { argv, env, cwd, user, timeout_ms: timeout_ms.map(NonZeroU64::get) };

    let outputs = RefCell::new(Outputs::new(progress.is_some()));
    let news = Notify::new();
    let input = arguments.stdin.map(String::into_bytes);
    let following = exec::follow(&agent.spawner, &command, input, |channel, bytes| {
        outputs.borrow_mut().take(channel, bytes);
        news.notify_one();
    });
    let ended = match &progress {
        None => following.await,
        Some(progress) => tokio::select! {
            ended = following => ended,
            () = tell(progress, &outputs, &news) => return Err("the session has ended".to_owned()),
        },
    };
    let ended = ended.map_err(|failure| failure.to_string())?;
    outputs.borrow_mut().end();
    let last = outputs.borrow_mut().news();
    if let (Some(progress), Some((bytes, text))) = (&progress, last) {
        // Of a client that is gone its stream tells.
        let _ = progress.tell(counted(bytes), text).await;
    }
    let Outputs { stdout, stderr, .. } = outputs.into_inner();
    Ok(reply(ended, stdout, stderr))
}

/// Tells what was written as it comes, until that fails.
async fn tell(progress: &Progress, outputs: &RefCell<Outputs>, news: &Notify) {
    loop {
        news.notified().await;
        let fresh = outputs.borrow_mut().news();
        if let Some((bytes, text)) = fresh {
            if !progress.tell(counted(bytes), text).await {
                return;
            }
            sleep(NEWS_INTERVAL).await;
        }
    }
}

/// Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "the protocol counts so")]
const fn counted(bytes: u64) -> f64 {
    bytes as f64
}

fn reply(ended: Ended, stdout: Kept, stderr: Kept) -> Reply {
    let mut texts = Vec::new();
    if !stdout.text.is_empty() {
        texts.push(stdout.text.clone());
    }
    if !stderr.text.is_empty() {
        texts.push(format!("[standard error]\n{}", stderr.text));
    }
    for (name, output) in [("output", &stdout), ("error", &stderr)] {
        if output.truncated {
            let (kept, bytes) = (output.text.len(), output.bytes);
            texts.push(format!("[standard {name} is cut: these are the first {kept} of {bytes} bytes]"));
        }
    }
    let end = match ended.status {
        _ if ended.timed_out => "killed, its time was up".to_owned(),
        ExitStatus::Code(code) => format!("exit code {code}"),
        ExitStatus::Signal(signal) => format!("ended by signal {signal}"),
        ExitStatus::Unknown => "nobody knows how it ended".to_owned(),
    };
    texts.push(format!("[{end}]"));
    let ran = Ran {
        exit_code: if let ExitStatus::Code(code) = ended.status { Some(code) } else { None },
        signal: if let ExitStatus::Signal(signal) = ended.status { Some(signal) } else { None },
        timed_out: ended.timed_out,
        truncated: stdout.truncated || stderr.truncated,
        stdout: stdout.text,
        stderr: stderr.text,
        stdout_bytes: stdout.bytes,
        stderr_bytes: stderr.bytes,
    };
    Reply { is_error: ended.timed_out, ..Reply::new(texts, &ran) }
}
