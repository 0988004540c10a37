//! The program under test: the same as `pivot`, built together with the tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    pivot_cli::main()
}
