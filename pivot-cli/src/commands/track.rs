//! `pivot track` and `pivot untrack`: data that no stage makes, kept by the cache.

use pivot_exec::TrackError;

use crate::exit::Exit;
use crate::report::Report;
use crate::show::output;
use crate::{Global, project};

/// Keep data that no stage makes in the cache, and its hash in git
///
/// Writes a small lock to `.pivot/tracked` for git, stores the data in the cache and adds it to
/// `.gitignore`. Track it again after it changed.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Files or directories, relative to the project
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
}

/// Forget that data is tracked; the data stays, and git sees it again
#[derive(Debug, clap::Args)]
pub(crate) struct UntrackArguments {
    /// Files or directories, relative to the project
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let project = project::open(global)?;
    project
        .make_layout()
        .map_err(|error| Report::new("cannot prepare `.pivot`").caused_by(&error))?;
    let options = project::load_options(global, &[]);
    for path in &arguments.paths {
        let (tracked, is_new) = pivot_exec::track(&project, &options, path).map_err(report)?;
        let (path, name) = (&tracked.artifact.path, &tracked.name);
        let bytes = tracked.artifact.content.size_bytes;
        output::data(&match is_new {
            true => {
                format!("tracked {path}, {bytes} bytes: add .pivot/tracked/{name}.lock to git\n")
            }
            false => format!("unchanged {path}\n"),
        });
    }
    Ok(Exit::Done)
}

pub(crate) fn untrack(global: &Global, arguments: &UntrackArguments) -> Result<Exit, Report> {
    let project = project::open(global)?;
    for path in &arguments.paths {
        pivot_exec::untrack(&project, path).map_err(report)?;
        output::data(&format!("not tracked any more: {path}\n"));
    }
    Ok(Exit::Done)
}

fn report(error: TrackError) -> Report {
    let report = Report::of(&error);
    match error {
        TrackError::InGit { path } => {
            report.hint(format!("take it out of git first: `git rm -r --cached {path}`"))
        }
        TrackError::Output { .. } => report.hint("outputs are kept by themselves"),
        _ => report,
    }
}
