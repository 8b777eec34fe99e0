//! Streams that carry a command's stdio.

use std::{rc::Rc, sync::Arc};

use nexus_protocol::{Channel, Failure, FailureKind, StreamHeader};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest, WriteHalf, split},
    net::unix::pipe,
};

use crate::{
    agent::Agent,
    exec::{Attachment, Claimed, Side},
    opening::{self, Opening},
    stream::Stream,
    streams::{Metered, Open},
};

/// What a command's pipe holds, and what is read or written at once. Where bulk is to be expected that is four times what a
/// pipe holds by itself, so that an end has to wait for the other a quarter as often.
const fn chunk_bytes(channel: Channel) -> usize {
    match channel {
        Channel::Stdin | Channel::Stdout => 256 * 1024,
        Channel::Stderr => 64 * 1024,
    }
}

/// A channel between the host's stream and the command's pipe.
enum Pipe {
    Input(pipe::Sender),
    Output(pipe::Receiver),
}

/// What a stream was opened for.
struct Opened {
    channel: Channel,
    pipe: Pipe,
    attachment: Rc<Attachment>,
    open: Rc<Open>,
}

/// Lets the stream say which channel it is for, and carries that channel to its end.
pub(crate) async fn serve(stream: Stream, agent: &Rc<Agent>) {
    match opening::open(stream, agent, |header| admit(&header, agent)).await {
        Opening::Open(stream, Opened { channel, pipe, attachment, open }) => {
            let stream = Metered::new(stream, Arc::clone(&open.meter));
            let carry = async {
                match pipe {
                    Pipe::Input(pipe) => carry_input(stream, pipe, &attachment).await,
                    Pipe::Output(pipe) => carry_output(stream, pipe, channel, &attachment).await,
                }
            };
            let side = tokio::select! {
                side = carry => side,
                () = async {
                    open.closing.cancelled().await;
                    attachment.abandon();
                } => Side::Host,
            };
            attachment.closed(channel, side);
        }
        // A host that is gone before it could use the stream, or does not hear that it can, has closed it.
        Opening::Unheard(Opened { channel, attachment, .. }) => attachment.closed(channel, Side::Host),
        Opening::Over => {}
    }
}

fn admit(header: &StreamHeader, agent: &Agent) -> Result<Opened, Failure> {
    let Claimed { end, attachment, open } = agent.execs.claim(header, &agent.streams)?;
    // For a user who has many large pipes already it stays as it is.
    let _ = rustix::pipe::fcntl_setpipe_size(&end, chunk_bytes(header.channel));
    let pipe = match header.channel {
        Channel::Stdin => pipe::Sender::from_owned_fd(end).map(Pipe::Input),
        Channel::Stdout | Channel::Stderr => pipe::Receiver::from_owned_fd(end).map(Pipe::Output),
    };
    match pipe {
        Ok(pipe) => Ok(Opened { channel: header.channel, pipe, attachment, open }),
        Err(error) => {
            attachment.closed(header.channel, Side::Host);
            Err(Failure::new(FailureKind::System, format!("cannot use the command's pipe: {error}")))
        }
    }
}

/// Until the host closes, or nobody reads the pipe any more; which of both.
async fn carry_input(mut stream: Metered<Stream>, mut pipe: pipe::Sender, attachment: &Attachment) -> Side {
    let mut chunk = vec![0; chunk_bytes(Channel::Stdin)];
    loop {
        let count = tokio::select! {
            read = stream.read(&mut chunk) => read.unwrap_or(0),
            _ = pipe.ready(Interest::ERROR) => return Side::Guest,
        };
        if count == 0 {
            return Side::Host;
        }
        tokio::select! {
            written = pipe.write_all(chunk.get(..count).unwrap_or_default()) => if written.is_err() {
                return Side::Guest;
            },
            () = attachment.stalled() => return Side::Host,
        }
    }
}

/// Until everyone has closed the pipe, or the host has closed the stream; which of both. Nothing is to come from the host:
/// what comes is dropped.
async fn carry_output(
    stream: Metered<Stream>,
    mut pipe: pipe::Receiver,
    channel: Channel,
    attachment: &Attachment,
) -> Side {
    let (mut from, mut to) = split(stream);
    // Also while what was written is not taken: a stream that the host has closed may take no more.
    let side = tokio::select! {
        side = copy(&mut pipe, &mut to, chunk_bytes(channel)) => side,
        () = closed(&mut from) => Side::Host,
    };
    let mut stream = from.unsplit(to);
    if side == Side::Host {
        return side;
    }
    drop(pipe);
    if attachment.keeps(channel) {
        tokio::select! {
            () = attachment.ended() => {}
            () = closed(&mut stream) => return Side::Host,
        }
    }
    // The other output may be closed while the end of this one is under way.
    attachment.closed(channel, side);
    stream.into_inner().finish().await;
    side
}

/// Until everyone has closed the pipe, or the stream takes no more; who has ended it.
async fn copy(pipe: &mut pipe::Receiver, stream: &mut WriteHalf<Metered<Stream>>, bytes: usize) -> Side {
    let mut chunk = vec![0; bytes];
    loop {
        match pipe.read(&mut chunk).await {
            Ok(count @ 1..) => {
                if stream.write_all(chunk.get(..count).unwrap_or_default()).await.is_err() {
                    return Side::Host;
                }
            }
            Ok(0) | Err(_) => return Side::Guest,
        }
    }
}

/// Waits until the host has closed the stream.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut unwanted = [0; 512];
    while stream.read(&mut unwanted).await.is_ok_and(|count| count > 0) {}
}
