//! What `pivot push`, `pivot fetch` and `pivot pull` have in common.

use std::num::NonZeroUsize;

use pivot_cache::CacheGuard;
use pivot_exec::{CONFIG_FILE, Interruption, Locked, OpenProject, Outlook, Shared};
use pivot_remote::{Indexed, Progress, Remote, RemoteError};

use crate::exit::Exit;
use crate::report::Report;
use crate::show::output;
use crate::show::transfer::{self, TransferProgress};
use crate::{Global, project};

/// What is transferred, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Stages, base names of variants, patterns, or paths of outputs or of directories around
    /// them [default: all]
    #[arg(value_name = "STAGES|FILES")]
    targets: Vec<String>,
    /// The remote to use instead of the default one
    #[arg(short, long, value_name = "NAME")]
    remote: Option<String>,
    /// Only show what would be transferred
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// How many objects are transferred at the same time
    #[arg(short, long, value_name = "N", value_parser = crate::commands::jobs)]
    jobs: Option<NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A transfer that is about to begin.
pub(crate) struct Session<'p> {
    pub(crate) remote: Indexed<'p>,
    pub(crate) locked: Locked,
    pub(crate) interruption: Interruption,
    /// What was found in the cache or has come into it stays there until the end.
    _guard: CacheGuard,
}

/// Opens the project.
pub(crate) fn open(global: &Global, arguments: &Arguments) -> Result<OpenProject, Report> {
    let project = project::open(global)?;
    if arguments.dry_run {
        return Ok(project);
    }
    project.make_layout().map_err(|error| Report::new("cannot make `.pivot`").caused_by(&error))?;
    Ok(project)
}

/// Opens the remote and finds out what is meant.
pub(crate) fn begin<'p>(
    global: &Global,
    arguments: &Arguments,
    project: &'p OpenProject,
) -> Result<Session<'p>, Report> {
    // Before signals are only noted: a Ctrl-C shall end the waiting.
    let waits = || output::note("waiting for `pivot gc`, which removes objects");
    let guard = project.cache.share(waits);
    let interruption = Interruption::listen()
        .map_err(|error| Report::new("cannot listen for signals").caused_by(&error))?;
    let (name, mut remote) = pivot_exec::open_remote(
        project,
        arguments.remote.as_deref(),
        arguments.jobs,
        interruption.flag(),
    )?;
    let options = project::load_options(global, &[]);
    let locked = pivot_exec::locked_outs(project, &options, &arguments.targets)
        .map_err(|error| Report::of(&error).maybe_hint(error.hint()))?;
    if !arguments.targets.is_empty() {
        // Who names outputs wants to be sure of these.
        remote = remote.asking();
    }
    let around = pivot_exec::output_around_remote(project.root(), &remote.url(), &locked.outs);
    if let Some(out) = around {
        let (path, stage) = (&out.artifact.path, &out.stage);
        return Err(Report::new(format!(
            "remote `{name}` lies in `{path}`, an output of `{stage}`"
        ))
        .hint(format!("set `remotes.{name}` in {CONFIG_FILE} to a directory elsewhere")));
    }
    for notice in &locked.notices {
        output::note(&format!("warning: {notice}"));
    }
    if locked.locks.is_empty() {
        output::note("note: no stage has a lock yet: run the pipeline, or get its locks from git");
    }
    Ok(Session { remote, locked, interruption, _guard: guard })
}

/// With `--dry-run`: shows the outlook and says how the command ends.
pub(crate) fn dry_run(
    arguments: &Arguments,
    session: &Session<'_>,
    verb: &str,
    outlook: impl FnOnce(&dyn Remote) -> Result<Outlook, RemoteError>,
) -> Option<Result<Exit, Report>> {
    if !arguments.dry_run {
        return None;
    }
    let outlook = match outlook(&session.remote) {
        Ok(outlook) => outlook,
        Err(error) => return Some(Err(Report::new("cannot ask the remote").caused_by(&error))),
    };
    if arguments.json {
        output::json(&transfer::outlook_json(&outlook));
    } else {
        transfer::tell_passed_over(&outlook.passed_over);
        output::data(&transfer::outlook_text(&outlook, verb));
    }
    Some(Ok(if outlook.missing.is_empty() { Exit::Done } else { Exit::NotDone }))
}

/// Transfers, with progress shown.
pub(crate) fn watched(
    arguments: &Arguments,
    verb: &'static str,
    transfer: impl FnOnce(&mut dyn FnMut(Progress<'_>)) -> Shared,
) -> Shared {
    let mut progress = (!arguments.json).then(|| TransferProgress::new(verb));
    let shared = transfer(&mut |event| {
        if let Some(progress) = &mut progress {
            progress.show(&event);
        }
    });
    if let Some(progress) = progress {
        progress.finish();
    }
    shared
}

/// How the command ends.
pub(crate) fn exit(interruption: &Interruption, is_success: bool) -> Exit {
    match interruption.came() {
        Some(signal) if !is_success => Exit::Interrupted { signal: signal.number() },
        _ if is_success => Exit::Done,
        _ => Exit::NotDone,
    }
}
