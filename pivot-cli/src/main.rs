//! The `pivot` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    pivot_cli::main()
}
