//! `nexusctl mcp` without a VM: Nexus itself as a local server, with tools for VMs and for what is in them.

mod guest;
mod image;
mod inside;
mod stdio;
mod tool;
mod vm;

use nexus_mcp::{AtEnd, Call, Server};
use tokio::task::LocalSet;

use self::tool::Tool;
use super::{PATIENCE, reader};
use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::sentence,
};

/// As many requests may be under way.
const MAX_REQUESTS: usize = 256;

const INSTRUCTIONS: &str = "Virtual machines on this computer, each of its own and supervised. vm_list says which there are, \
image_list what they can be made from. A VM has to be started before commands are run or files read and written in it; \
everything of that happens inside the VM, as its root user unless another one is named.";

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
    let server = Server {
        name: "nexus",
        instructions: INSTRUCTIONS,
        max_requests: MAX_REQUESTS,
        at_end: AtEnd::Answer(PATIENCE),
    };
    let bus = bus.clone();
    let act = move |call: Call<Tool>| {
        let bus = bus.clone();
        async move { tool::call(call, &bus).await }
    };
    match server.serve(reading, writing, act).await {
        Ok(()) => Ok(Exit::OK),
        Err(error) => Err(Failure::new("no session has begun").because(sentence(&error.to_string()))),
    }
}
