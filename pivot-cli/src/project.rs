//! From the command line to an open project with its pipeline.

use std::path::{Path, PathBuf};

use pivot_exec::{
    ConfigError, LoadError, LoadOptions, Loaded, Locked, OpenProject, PlanError, Planned, Pull,
    Reach, RemoteChoiceError, RunError, Summary, TaskId,
};
use pivot_fingerprint::{HelperError, InspectError, InterpreterError, PythonFailure};
use pivot_lock::Found;
use pivot_pipeline::{NoSuchStage, ParamsFile, PipelineError, Project, StageName};

use crate::Global;
use crate::report::Report;
use crate::show::output;

/// Where the command works: `-C`, else the current directory.
pub(crate) fn start_directory(global: &Global) -> Result<PathBuf, Report> {
    let asked = global.directory.clone().unwrap_or_else(|| PathBuf::from("."));
    let absolute = asked.canonicalize();
    absolute.map_err(|error| {
        Report::new(format!("cannot work in `{}`", asked.display())).caused_by(&error)
    })
}

/// The project's directory.
pub(crate) fn root(global: &Global) -> Result<PathBuf, Report> {
    Ok(Project::discover(&start_directory(global)?)?.root)
}

/// Finds and opens the project.
pub(crate) fn open(global: &Global) -> Result<OpenProject, Report> {
    let project = Project::discover(&start_directory(global)?)?;
    Ok(OpenProject::open(project)?)
}

/// Loads the pipeline and tells what is to be told about it.
pub(crate) fn load(
    global: &Global,
    project: &OpenProject,
    overrides: &[String],
) -> Result<Loaded, Report> {
    let loaded = pivot_exec::load(project, &load_options(global, overrides))?;
    warn_of(&loaded.notices);
    Ok(loaded)
}

/// What a run of all stages would come to, if it is known that there is nothing to do.
pub(crate) fn settled(global: &Global, project: &OpenProject, pull: Pull) -> Option<Summary> {
    let settled = pivot_exec::settled(project, &load_options(global, &[]), pull)?;
    warn_of(&settled.notices);
    Some(settled.summary)
}

pub(crate) fn load_options(global: &Global, overrides: &[String]) -> LoadOptions {
    LoadOptions { overrides: overrides.to_vec(), python: absolute(global.python.as_deref()) }
}

/// The stages that `words` name, without those that they need; none if there are no words.
pub(crate) fn named(loaded: &Loaded, words: &[String]) -> Result<Vec<TaskId>, Report> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    Ok(pivot_exec::select(&loaded.pipeline, words, Reach::Alone)?)
}

/// The outputs and tracked data that `words` mean, as their locks have them.
pub(crate) fn locked(
    global: &Global,
    project: &OpenProject,
    words: &[String],
) -> Result<Locked, Report> {
    let locked = pivot_exec::locked_outs(project, &load_options(global, &[]), words)
        .map_err(|error| Report::of(&error).maybe_hint(error.hint()))?;
    warn_of(&locked.notices);
    Ok(locked)
}

pub(crate) fn warn_of(notices: &[String]) {
    for notice in notices {
        output::note(&format!("warning: {notice}"));
    }
}

/// A path is meant from where the user is, a bare name is looked up like a command.
pub(crate) fn absolute(python: Option<&Path>) -> Option<PathBuf> {
    let python = python?;
    let is_bare = python.components().count() == 1;
    let absolute = (!is_bare).then(|| std::path::absolute(python).ok()).flatten();
    Some(absolute.unwrap_or_else(|| python.to_owned()))
}

impl From<PipelineError> for Report {
    fn from(error: PipelineError) -> Self {
        let report = Report::of(&error).maybe_hint(error.hint());
        error.places().iter().fold(report, |report, place| report.at(place))
    }
}

impl From<ConfigError> for Report {
    fn from(error: ConfigError) -> Self {
        match &error {
            ConfigError::Content { position: Some((line, column)), .. } => {
                Report::of(&error).at(format!(".pivot/config.yaml:{line}:{column}"))
            }
            ConfigError::Content { position: None, .. } => {
                Report::of(&error).at(".pivot/config.yaml")
            }
            ConfigError::Yaml(error) => {
                let report = Report::of(error).maybe_hint(error.hint());
                error.places().iter().fold(report, |report, place| report.at(place))
            }
            _ => Report::of(&error),
        }
    }
}

impl From<RemoteChoiceError> for Report {
    fn from(error: RemoteChoiceError) -> Self {
        Report::of(&error).maybe_hint(error.hint())
    }
}

impl From<InterpreterError> for Report {
    fn from(error: InterpreterError) -> Self {
        Report::of(&error).hint(match error {
            InterpreterError::Broken { .. } => "name the interpreter that runs your stages",
            InterpreterError::NotFound => {
                "activate a virtual environment, make one in `.venv`, or name an interpreter with \
                 `--python`"
            }
        })
    }
}

impl From<NoSuchStage> for Report {
    fn from(error: NoSuchStage) -> Self {
        let all = || "`pivot list` shows all stages".to_owned();
        Report::of(&error).hint(error.hint().unwrap_or_else(all))
    }
}

impl From<RunError> for Report {
    fn from(error: RunError) -> Self {
        match &error {
            RunError::Capacity(lack) => Report::of(&error).hint(lack.hint()),
            RunError::System { .. } => Report::of(&error),
        }
    }
}

impl From<LoadError> for Report {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Pipeline(error) => error.into(),
            LoadError::Interpreter(error) => error.into(),
            LoadError::Inspect { source, params } => inspect_report(source, &params),
            LoadError::Read { .. } => Report::of(&error),
        }
    }
}

fn inspect_report(error: InspectError, params: &ParamsFile) -> Report {
    match error {
        InspectError::Python(failure) => python_report(&failure, params),
        InspectError::Helper(error @ HelperError::TooOld { .. }) => Report::of(&error)
            .hint("name a newer one with `--python`, or activate a newer virtual environment"),
        InspectError::Helper(error) => Report::of(&error),
        InspectError::Ended { .. } => Report::of(&error)
            .hint("run `python -X faulthandler -c 'import pipeline'` to see where"),
    }
}

/// What Python found wrong: the user's own traceback, and the line of params.yaml where a value
/// is that a model does not take.
fn python_report(failure: &PythonFailure, params: &ParamsFile) -> Report {
    let message = match &failure.stage {
        Some(stage) if !failure.message.contains(&format!("`{stage}`")) => {
            format!("stage `{stage}`: {}", failure.message)
        }
        _ => failure.message.clone(),
    };
    let mut report = Report::new(message).maybe_hint(failure.hint.as_ref());
    let mut lines = Vec::new();
    if let [only] = failure.details.as_slice() {
        // The message is about this one: all that is missing is where the value is written.
        let stage = failure.stage.as_ref().and_then(|stage| StageName::new(stage.as_str()).ok());
        if let Some(place) = stage.and_then(|stage| params.lookup(&stage, &only.loc)) {
            report = report.at(place);
        }
    }
    for detail in failure.details.iter().filter(|_| failure.details.len() > 1) {
        let stage = failure.stage.as_ref().and_then(|stage| StageName::new(stage.as_str()).ok());
        let written = stage.and_then(|stage| params.lookup(&stage, &detail.loc));
        let key = detail.loc.join(".");
        match written {
            Some(place) => lines.push(format!("  {place}: {key}: {}", detail.message)),
            None => lines.push(format!("  {key}: {}", detail.message)),
        }
    }
    if let Some(file) = &failure.file {
        report = match failure.line {
            Some(line) => report.at(format!("{file}:{line}")),
            None => report.at(file),
        };
    }
    if let Some(traceback) = &failure.traceback {
        lines.push(traceback.trim_end().to_owned());
    }
    if lines.is_empty() { report } else { report.body(lines.join("\n")) }
}

/// Names the locks that count as absent because they cannot be read.
pub(crate) fn warn_of_unusable_locks(loaded: &Loaded, planned: &Planned) {
    for plan in &planned.plan.stages {
        if let Found::Unusable { why } = &planned.locks[plan.task.index()] {
            let stage = &loaded.pipeline.stage(plan.task).name;
            output::note(&format!("warning: .pivot/stages/{stage}.lock is not used: {why}"));
        }
    }
}

/// The report for a plan that cannot be made; it names all missing dependencies.
pub(crate) fn plan_report(error: PlanError, loaded: &Loaded) -> Report {
    let PlanError::MissingDeps(missing) = error else { return Report::of(&error) };
    let stage = |task| loaded.pipeline.stage(task);
    let mut lines: Vec<String> = missing
        .iter()
        .take(10)
        .map(|dep| {
            let stage = stage(dep.task);
            format!("  `{}`, which stage `{}` reads ({})", dep.path, stage.name, stage.place)
        })
        .collect();
    if missing.len() > lines.len() {
        lines.push(format!("  and {} more", missing.len() - lines.len()));
    }
    let recorded = missing.iter().find_map(|dep| dep.recorded.as_deref());
    let written = missing.iter().any(|dep| loaded.pipeline.graph().writer_of(&dep.path).is_some());
    let hint = match recorded {
        _ if written => {
            "some of them are written by stages that were not selected: run without `-s`".to_owned()
        }
        Some(path) => format!(
            "`{path}` is tracked, and neither the cache nor a remote that could be asked has it: \
             `pivot push {path}` where it is, or track it again"
        ),
        None => "add the file, or correct the path in the stage's dependencies".to_owned(),
    };
    let what = if missing.len() == 1 { "a dependency is" } else { "dependencies are" };
    Report::new(format!(
        "{what} missing, and no selected stage writes {}",
        if missing.len() == 1 { "it" } else { "them" }
    ))
    .body(lines.join("\n"))
    .hint(hint)
}
