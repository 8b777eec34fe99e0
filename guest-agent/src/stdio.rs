//! Streams that carry a command's stdio.

use std::rc::Rc;

use nexus_protocol::{
    Channel, Failure, FailureKind, MAX_STREAM_FRAME_BYTES, StreamAnswer, StreamHeader,
    frame::{read_one, write_one},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest, WriteHalf, split},
    net::unix::pipe,
    time::timeout,
};

use crate::{
    agent::Agent,
    exec::{Attachment, Claimed, Side},
    listener::OPENING_DEADLINE,
    stream::Stream,
};

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
        let (open, answer) = match open(&header, agent) {
            Ok(open) => (Some(open), StreamAnswer::Open),
            Err(failure) => (None, StreamAnswer::Failure(failure)),
        };
        let answered = write_one(&mut stream, MAX_STREAM_FRAME_BYTES, &answer).await;
        Some((header.channel, open, answered))
    })
    .await;
    match opened {
        Ok(Some((_, None, Ok(())))) => stream.finish().await,
        Ok(Some((channel, Some((pipe, attachment)), Ok(())))) => {
            let side = match pipe {
                Pipe::Input(pipe) => carry_input(stream, pipe, &attachment).await,
                Pipe::Output(pipe) => carry_output(stream, pipe, channel, &attachment).await,
            };
            attachment.closed(channel, side);
        }
        // A host that is gone before it could use the stream has closed it.
        Ok(Some((channel, Some((_, attachment)), Err(_)))) => attachment.closed(channel, Side::Host),
        Ok(Some((_, None, Err(_))) | None) | Err(_) => {}
    }
}

fn open(header: &StreamHeader, agent: &Agent) -> Result<(Pipe, Rc<Attachment>), Failure> {
    let Claimed { end, attachment } = agent.execs.claim(header)?;
    let pipe = match header.channel {
        Channel::Stdin => pipe::Sender::from_owned_fd(end).map(Pipe::Input),
        Channel::Stdout | Channel::Stderr => pipe::Receiver::from_owned_fd(end).map(Pipe::Output),
    };
    let pipe =
        pipe.map_err(|error| Failure::new(FailureKind::System, format!("cannot use the command's pipe: {error}")));
    Ok((pipe?, attachment))
}

/// Until the host closes, or nobody reads the pipe any more; which of both.
async fn carry_input(mut stream: Stream, mut pipe: pipe::Sender, attachment: &Attachment) -> Side {
    let mut chunk = vec![0; CHUNK_BYTES];
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
async fn carry_output(stream: Stream, mut pipe: pipe::Receiver, channel: Channel, attachment: &Attachment) -> Side {
    let (mut from, mut to) = split(stream);
    // Also while what was written is not taken: a stream that the host has closed may take no more.
    let side = tokio::select! {
        side = copy(&mut pipe, &mut to) => side,
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
    stream.finish().await;
    side
}

/// Until everyone has closed the pipe, or the stream takes no more; who has ended it.
async fn copy(pipe: &mut pipe::Receiver, stream: &mut WriteHalf<Stream>) -> Side {
    let mut chunk = vec![0; CHUNK_BYTES];
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
