//! The `pivot` command: words, colors and exit codes around the library crates.
//!
//! A command is one file under `commands`: its arguments with their help, and a function that
//! opens the project, calls a library crate and shows the result. Data goes to standard
//! output, progress and warnings to standard error. The exit code is 0 if everything that was
//! asked for is done, 1 if not, 2 for a command line that is not understood, and 128 plus the
//! signal's number after an interruption.

mod commands;
mod exit;
mod project;
mod report;
mod show;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::{
    cache, checkout, commit, completions, config, dag, doctor, fetch, gc, init, list, params, pull,
    push, remote, run, status, trace, track, transfer, verify,
};
use crate::exit::Exit;
use crate::report::Report;
use crate::show::output;

/// Change your code. Pivot knows what to run.
#[derive(Debug, Parser)]
#[command(name = "pivot", version, about, max_term_width = 100, subcommand_required = true)]
#[command(arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Work in this directory instead of the current one
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true)]
    directory: Option<PathBuf>,
    /// Run stages with this Python (also: the variable PIVOT_PYTHON)
    #[arg(long, value_name = "PATH", global = true)]
    python: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new project: a first pipeline and `.pivot`
    Init(init::Arguments),
    /// Run the stages that are stale, with all that they need
    #[command(visible_alias = "repro")]
    Run(run::Arguments),
    /// Show what a run would do
    Status(status::Arguments),
    /// List the stages with what they read and write
    List(list::Arguments),
    /// Show which stages each stage needs, as text or for a program that draws
    Dag(dag::Arguments),
    /// Show the values that stages are given
    Params(params::Arguments),
    /// Send outputs to a remote
    ///
    /// Sends what the locks name and the remote lacks. Objects that several outputs share are sent
    /// once. Locks and settings are not sent: locks belong into git.
    Push(transfer::Arguments),
    /// Bring outputs from a remote into the project
    ///
    /// Brings what the locks name and the cache lacks, and puts it in its place. What you changed
    /// there is moved to `.pivot/saved/`.
    Pull(transfer::Arguments),
    /// Bring outputs from a remote into the cache only
    Fetch(transfer::Arguments),
    Checkout(checkout::Arguments),
    Commit(commit::Arguments),
    Verify(verify::Arguments),
    Track(track::Arguments),
    Untrack(track::UntrackArguments),
    Gc(gc::Arguments),
    Cache(cache::Arguments),
    /// Add, list and remove remotes: caches elsewhere
    Remote(remote::Arguments),
    /// Show and change the settings in `.pivot/config.yaml`
    Config(config::Arguments),
    /// Print what a past run did when, for a program that draws it
    Trace(trace::Arguments),
    /// Check which Python is used and whether the pipeline can be loaded
    Doctor(doctor::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
}

/// Runs the program with this process's arguments.
pub fn main() -> ExitCode {
    pivot_exec::be_warden_if_asked();
    run_program(std::env::args_os())
}

fn run_program(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version are no errors; a closed pipe is none either.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    match execute(&parsed.global, &parsed.command) {
        Ok(exit) => match output::failure() {
            None => exit.into(),
            Some(error) => {
                Report::new("cannot write to the standard output").caused_by(error).print();
                Exit::NotDone.into()
            }
        },
        Err(report) => {
            report.print();
            Exit::NotDone.into()
        }
    }
}

fn execute(global: &Global, command: &Command) -> Result<Exit, Report> {
    match command {
        Command::Init(arguments) => init::run(global, arguments),
        Command::Run(arguments) => run::run(global, arguments),
        Command::Status(arguments) => status::run(global, arguments),
        Command::List(arguments) => list::run(global, arguments),
        Command::Dag(arguments) => dag::run(global, arguments),
        Command::Params(arguments) => params::run(global, arguments),
        Command::Push(arguments) => push::run(global, arguments),
        Command::Pull(arguments) => pull::run(global, arguments),
        Command::Fetch(arguments) => fetch::run(global, arguments),
        Command::Checkout(arguments) => checkout::run(global, arguments),
        Command::Commit(arguments) => commit::run(global, arguments),
        Command::Verify(arguments) => verify::run(global, arguments),
        Command::Track(arguments) => track::run(global, arguments),
        Command::Untrack(arguments) => track::untrack(global, arguments),
        Command::Gc(arguments) => gc::run(global, arguments),
        Command::Cache(arguments) => cache::run(global, arguments),
        Command::Remote(arguments) => remote::run(global, arguments),
        Command::Config(arguments) => config::run(global, arguments),
        Command::Trace(arguments) => trace::run(global, arguments),
        Command::Doctor(arguments) => doctor::run(global, arguments),
        Command::Completions(arguments) => {
            Ok(completions::run(arguments, &mut Arguments::command()))
        }
    }
}
