//! `pivot completions`: scripts that let a shell complete the command line.

use clap_complete::Shell;

use crate::exit::Exit;
use crate::show::output;

/// Print a completion script for a shell
///
/// For bash: `pivot completions bash > ~/.local/share/bash-completion/completions/pivot`
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments, command: &mut clap::Command) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "pivot", &mut script);
    output::data(&String::from_utf8_lossy(&script));
    Exit::Done
}
