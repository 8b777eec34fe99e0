//! `nexusctl mcp` without a VM: Nexus itself as a local server, with tools for VMs and for what is in them.
//!
//! The SDK wants to be moved between threads and nexusctl's own things must not be: so the SDK's part is
//! [`server::Server`], which passes each call on to a task here.

mod call;
mod guest;
mod image;
mod inside;
mod server;
mod stdio;
mod tool;
mod transport;
mod vm;

use nexus_protocol::MAX_TOOLS_LINE_BYTES;
use rmcp::{service::ServerInitializeError, transport::async_rw::AsyncRwTransport};
use tokio::{
    sync::mpsc,
    task::{JoinSet, LocalSet},
};
use tokio_util::sync::CancellationToken;

use self::{call::Call, server::Server, transport::Patient};
use super::reader;
use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::sentence,
};

/// As many calls wait for a task.
const MAX_CALLS: usize = 32;

/// Serves a client on the standard streams until it has enough.
pub(super) async fn run(bus: &Bus, interrupts: &mut Interrupts) -> Result<Exit, Failure> {
    let streams = stdio::connect()
        .map_err(|error| Failure::new("cannot use the standard streams").because(sentence(&error.to_string())))?;
    let (reading, writing) = streams.stream.into_split();
    let tasks = LocalSet::new();
    let result = tokio::select! {
        result = tasks.run_until(serve(bus, reading, writing)) => result,
        () = reader::is_gone() => return Ok(Exit::OK),
        number = interrupts.next() => return Err(Failure::silent(Exit::signal(number))),
    };
    tokio::select! {
        // An error is an end as well.
        _ = streams.written => {}
        () = reader::is_gone() => return Ok(Exit::OK),
        number = interrupts.next() => return Err(Failure::silent(Exit::signal(number))),
    }
    result
}

async fn serve(
    bus: &Bus,
    reading: tokio::net::unix::OwnedReadHalf,
    writing: tokio::net::unix::OwnedWriteHalf,
) -> Result<Exit, Failure> {
    let transport = AsyncRwTransport::new_server(reading, writing).with_max_line_length(MAX_TOOLS_LINE_BYTES);
    let (calls, mut called) = mpsc::channel::<Call>(MAX_CALLS);
    let service = async {
        let server = Server::new(calls);
        match rmcp::service::serve_server_with_ct(server, Patient::new(transport), CancellationToken::new()).await {
            Ok(running) => {
                // Of a task that failed the panic hook has told.
                drop(running.waiting().await);
                Ok(Exit::OK)
            }
            // It has said nothing at all.
            Err(ServerInitializeError::ConnectionClosed(_)) => Ok(Exit::OK),
            Err(error) => Err(Failure::new("no session has begun").because(sentence(&error.to_string()))),
        }
    };
    tokio::pin!(service);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            result = &mut service => return result,
            Some(call) = called.recv() => {
                while tasks.try_join_next().is_some() {}
                tasks.spawn_local(call.answer(bus.clone()));
            }
        }
    }
}
