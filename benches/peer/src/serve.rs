//! What a connection is served with.

use std::{
    fs::File,
    io::{self, Read, Write},
    process::{Command, Stdio},
    thread,
};

use crate::{Request, Terminal};

/// What is read or written at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Does what a connection asks for, and returns when the host has closed it.
///
/// # Errors
/// When the connection or what was asked for fails.
pub fn serve(mut connection: File) -> io::Result<()> {
    match Request::read(&mut connection)? {
        Request::Echo => pass(&connection, &connection, u64::MAX),
        Request::Take(bytes) => {
            pass(&connection, io::sink(), bytes)?;
            connection.write_all(b"\0")?;
            drain(&connection)
        }
        Request::Give(bytes) => {
            pass(io::repeat(0), &connection, bytes)?;
            drain(&connection)
        }
        Request::Run { input, argv } => {
            let status = run(&connection, input, &argv)?;
            connection.write_all(&[u8::from(!status)])?;
            drain(&connection)
        }
        Request::Terminal(argv) => on_terminal(connection, &argv),
    }
}

/// Runs a program, with pipes as its input and output; whether it succeeded. It takes all of its input before it writes.
fn run(connection: &File, input: u64, argv: &[String]) -> io::Result<bool> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::piped());
    command.stdin(if input > 0 { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn()?;
    if let Some(stdin) = child.stdin.take() {
        pass(connection, stdin, input)?;
    }
    if let Some(stdout) = child.stdout.take() {
        pass(stdout, connection, u64::MAX)?;
    }
    Ok(child.wait()?.success())
}

fn on_terminal(connection: File, argv: &[String]) -> io::Result<()> {
    let terminal = Terminal::run(argv)?;
    let (shown, to) = (terminal.stream().try_clone()?, connection.try_clone()?);
    let showing = thread::spawn(move || pass(shown, to, u64::MAX));
    let typed = pass(&connection, terminal.stream(), u64::MAX);
    drop(terminal);
    // With the program its side of the terminal has ended, and so does what shows it.
    let _ = showing.join();
    typed
}

/// Reads to the end.
fn drain(connection: &File) -> io::Result<()> {
    pass(connection, io::sink(), u64::MAX)
}

/// Passes so many bytes on, or all that come.
fn pass(mut from: impl Read, mut to: impl Write, mut bytes: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    while bytes > 0 {
        let most = usize::try_from(bytes).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let count = match from.read(chunk.get_mut(..most).unwrap_or_default()) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(chunk.get(..count).unwrap_or_default())?;
        bytes -= count as u64;
    }
    Ok(())
}
