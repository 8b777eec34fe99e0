//! Streams that carry a command's stdio.

use std::{os::fd::OwnedFd, rc::Rc};

use nexus_protocol::{
    Channel, Failure, FailureKind, MAX_STREAM_FRAME_BYTES, StreamAnswer, StreamHeader,
    frame::{read_one, write_one},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::unix::pipe,
    time::timeout,
};

use crate::{agent::Agent, listener::OPENING_DEADLINE, stream::Stream};

const CHUNK_BYTES: usize = 32 * 1024;

/// A channel between the host's stream and the command's pipe.
enum Pipe {
    Input(pipe::Sender),
    Output(pipe::Receiver),
}

/// Lets the stream say which channel it is for, and carries that channel to its end.
pub(crate) async fn serve(mut stream: Stream, agent: &Rc<Agent>) {
    let opened = timeout(OPENING_DEADLINE, async {
        let header = read_one(&mut stream, MAX_STREAM_FRAME_BYTES).await.ok()?;
        let (pipe, answer) = match open(&header, agent) {
            Ok(pipe) => (Some(pipe), StreamAnswer::Open),
            Err(failure) => (None, StreamAnswer::Failure(failure)),
        };
        write_one(&mut stream, MAX_STREAM_FRAME_BYTES, &answer).await.ok()?;
        Some(pipe)
    })
    .await;
    match opened {
        Ok(Some(Some(Pipe::Input(pipe)))) => carry_input(stream, pipe).await,
        Ok(Some(Some(Pipe::Output(pipe)))) => carry_output(stream, pipe).await,
        Ok(Some(None)) => stream.finish().await,
        Ok(None) | Err(_) => {}
    }
}

fn open(header: &StreamHeader, agent: &Agent) -> Result<Pipe, Failure> {
    let end: OwnedFd = agent.execs.claim(header)?;
    let pipe = match header.channel {
        Channel::Stdin => pipe::Sender::from_owned_fd(end).map(Pipe::Input),
        Channel::Stdout | Channel::Stderr => pipe::Receiver::from_owned_fd(end).map(Pipe::Output),
    };
    pipe.map_err(|error| Failure::new(FailureKind::System, format!("cannot use the command's pipe: {error}")))
}

/// Until the host closes, or nobody reads the pipe any more.
async fn carry_input(mut stream: Stream, mut pipe: pipe::Sender) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = tokio::select! {
            read = stream.read(&mut chunk) => read.unwrap_or(0),
            _ = pipe.ready(Interest::ERROR) => 0,
        };
        if count == 0 || pipe.write_all(chunk.get(..count).unwrap_or_default()).await.is_err() {
            break;
        }
    }
}

/// Until everyone has closed the pipe, or the host has closed the stream. Nothing is to come from the host: what comes
/// is dropped.
async fn carry_output(mut stream: Stream, mut pipe: pipe::Receiver) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut unwanted = [0; 512];
    loop {
        tokio::select! {
            read = pipe.read(&mut chunk) => match read {
                Ok(count @ 1..) => {
                    if stream.write_all(chunk.get(..count).unwrap_or_default()).await.is_err() {
                        return;
                    }
                }
                Ok(0) | Err(_) => break,
            },
            read = stream.read(&mut unwanted) => {
                if read.unwrap_or(0) == 0 {
                    return;
                }
            }
        }
    }
    drop(chunk);
    drop(pipe);
    stream.finish().await;
}
