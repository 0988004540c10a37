//! `pivot doctor`: is everything there that a run needs?

use pivot_fingerprint::{Helper, Interpreter, InterpreterError, Search, StartOptions, StreamTo};

use crate::commands::remote_doctor;
use crate::exit::Exit;
use crate::report::Report;
use crate::show::output;
use crate::{Global, project};

/// Check which Python is used and whether the pipeline can be loaded
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Check instead whether the default remote answers, and with which credentials
    #[arg(long)]
    remote: bool,
    /// With --remote: the remote to check instead of the default one
    #[arg(short = 'r', value_name = "NAME", requires = "remote")]
    remote_name: Option<String>,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let project = project::open(global)?;
    let is_well = std::cell::Cell::new(true);
    let say = |good: bool, what: String| {
        is_well.set(is_well.get() && good);
        output::data(&format!("{} {what}\n", if good { "ok     " } else { "problem" }));
    };
    let root = project.root().display();
    say(true, format!("project {root}, defined in {}", project.project.definition.file()));
    if arguments.remote {
        remote_doctor::examine(&project, arguments.remote_name.as_deref(), &say);
        return Ok(if is_well.get() { Exit::Done } else { Exit::NotDone });
    }
    if let Some(notice) = project.state.notice() {
        output::data(&format!("note    state: {notice}\n"));
    }

    let search = Search::from_environment(project.root())
        .explicit(project::absolute(global.python.as_deref()))
        .configured(project.config.python.clone());
    let mut is_chosen = false;
    for candidate in Interpreter::candidates(&search) {
        match (candidate.found, candidate.broken) {
            (Some(path), _) => {
                let verdict = if is_chosen { "not needed" } else { "used" };
                is_chosen = true;
                say(true, format!("python {}, {} ({verdict})", path.display(), candidate.reason));
            }
            (None, Some(path)) => {
                is_chosen = true;
                say(false, format!("python {}, {}: cannot run", path.display(), candidate.reason));
            }
            (None, None) => {}
        }
    }
    let greeting = match Interpreter::find(&search) {
        // A broken one is in the list above.
        Err(InterpreterError::Broken { .. }) => None,
        Err(error) => {
            say(false, error.to_string());
            None
        }
        Ok(python) => Some(greet(&python, &project)),
    };
    match greeting {
        Some(Ok(version)) => say(true, format!("the helper starts on Python {version}")),
        Some(Err(error)) => say(false, error.to_string()),
        None => {}
    }
    // Without a Python that works, a pipeline of shell commands still loads.
    if is_well.get() {
        match project::load(global, &project, &[]) {
            Ok(loaded) => {
                say(true, format!("stages in the pipeline: {}", loaded.pipeline.stages().len()));
            }
            Err(report) => say(false, report.text().trim_end().to_owned()),
        }
    }
    Ok(if is_well.get() { Exit::Done } else { Exit::NotDone })
}

fn greet(
    python: &Interpreter,
    project: &pivot_exec::OpenProject,
) -> Result<String, pivot_fingerprint::HelperError> {
    let options = StartOptions {
        directory: project.root().to_owned(),
        streams: StreamTo::StandardError,
        environment: Vec::new(),
    };
    let (major, minor, micro) = Helper::start(python, options)?.hello()?.py;
    Ok(format!("{major}.{minor}.{micro}"))
}
