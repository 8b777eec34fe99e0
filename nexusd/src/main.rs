//! The daemon. See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    nexusd::main()
}
