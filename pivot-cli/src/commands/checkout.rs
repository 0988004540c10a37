//! `pivot checkout`: makes the workspace match the locks.

use pivot_exec::{CheckedOut, LockedOut, Restored, StageFailure};
use serde_json::json;

use crate::exit::Exit;
use crate::report::{Report, with_causes};
use crate::show::output;
use crate::{Global, project};

/// Bring outputs and tracked data to what the locks record, from the cache
///
/// What you changed there is moved to `.pivot/saved/` first. Nothing is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Stages, base names, patterns, or paths of outputs and tracked data [default: all]
    #[arg(value_name = "STAGES|PATHS")]
    words: Vec<String>,
    /// Only say what would be brought
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let project = project::open(global)?;
    let locked = project::locked(global, &project, &arguments.words)?;
    let outs: Vec<LockedOut> = locked.outs.into_iter().filter(|out| !out.is_uncached).collect();
    if arguments.dry_run {
        return Ok(plan(&project, &outs, arguments.json));
    }
    let results = pivot_exec::check_out(&project, &outs);
    project.state.flush();
    let failed = results.iter().filter(|out| out.result.is_err()).count();
    let brought = count(&results, Restored::FromCache);
    if arguments.json {
        let outs: Vec<_> = results.iter().map(one_json).collect();
        output::json(&json!({ "schema_version": 1, "outs": outs }));
    } else {
        results.iter().for_each(one_text);
        let there = count(&results, Restored::AlreadyThere);
        let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        output::data(&format!("{brought} brought, {there} already there{failed}\n"));
    }
    if results
        .iter()
        .any(|out| matches!(&out.result, Err(StageFailure::Cache(error)) if error.is_loss()))
    {
        output::note(
            "hint: `pivot pull` fetches what a remote has; `pivot run` makes outputs again",
        );
    }
    Ok(if failed > 0 { Exit::NotDone } else { Exit::Done })
}

fn count(results: &[CheckedOut], restored: Restored) -> usize {
    results.iter().filter(|out| matches!(&out.result, Ok(found) if *found == restored)).count()
}

fn one_text(out: &CheckedOut) {
    for (path, saved) in &out.set_aside {
        output::note(&format!("note: `{path}` held something else: it is now `{saved}`"));
    }
    match &out.result {
        Ok(Restored::AlreadyThere) => {}
        Ok(Restored::FromCache) => output::note(&format!("done  {}", out.path)),
        Err(error) => output::note(&format!("FAIL  {}: {}", out.path, with_causes(error))),
    }
}

fn one_json(out: &CheckedOut) -> serde_json::Value {
    let (result, error) = match &out.result {
        Ok(Restored::AlreadyThere) => ("there", None),
        Ok(Restored::FromCache) => ("brought", None),
        Err(error) => ("failed", Some(with_causes(error))),
    };
    let saved: Vec<_> =
        out.set_aside.iter().map(|(path, to)| json!({ "path": path, "saved": to })).collect();
    json!({
        "stage": out.stage, "path": out.path, "result": result, "error": error, "saved": saved,
    })
}

fn plan(project: &pivot_exec::OpenProject, outs: &[LockedOut], as_json: bool) -> Exit {
    let workspace = project.workspace();
    let mut exit = Exit::Done;
    let mut list = Vec::new();
    for out in outs {
        let found = workspace.content(&out.artifact.path).ok().flatten();
        let result = if found == Some(out.artifact.content) {
            "there"
        } else if project.cache.holds(&out.artifact.content) {
            "bring"
        } else {
            exit = Exit::NotDone;
            "missing"
        };
        list.push((out, result));
    }
    if as_json {
        let outs = list.iter().map(|(out, result)| {
            json!({ "stage": out.stage, "path": out.artifact.path, "result": result })
        });
        output::json(&json!({ "schema_version": 1, "outs": outs.collect::<Vec<_>>() }));
    } else {
        let lines = list.iter().filter(|(_, result)| *result != "there");
        let lines = lines.map(|(out, result)| format!("{result:<8}{}\n", out.artifact.path));
        output::data(&lines.collect::<String>());
    }
    exit
}
