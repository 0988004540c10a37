//! `pivot cache`: what the cache holds, and whether it is sound.

use pivot_cache::Problem;
use serde_json::json;

use crate::exit::Exit;
use crate::report::{Report, with_causes};
use crate::show::output;
use crate::{Global, project};

/// Check the cache, or say where and how large it is
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Hash every object; move damaged ones to quarantine
    Fsck {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the cache's directory
    Dir,
    /// Print how many objects there are, and their bytes
    Size,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let project = project::open(global)?;
    let cache = &project.cache;
    match arguments.command {
        Command::Dir => {
            output::data(&format!("{}\n", cache.dir().display()));
            Ok(Exit::Done)
        }
        Command::Size => {
            let (mut count, mut bytes) = (0_u64, 0);
            for id in cache.objects() {
                count += 1;
                let id = id.map_err(|error| Report::of(&error))?;
                bytes += cache.size_bytes(id).unwrap_or(0);
            }
            output::data(&format!("{count} objects, {bytes} bytes\n"));
            Ok(Exit::Done)
        }
        Command::Fsck { json } => fsck(cache, json),
    }
}

fn fsck(cache: &pivot_cache::Cache, as_json: bool) -> Result<Exit, Report> {
    let _guard = cache.share(|| output::note("waiting for `pivot gc`, which removes objects"));
    let bar = indicatif::ProgressBar::new_spinner();
    let report = cache.fsck(&|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let report = report.map_err(|error| Report::of(&error))?;
    let damaged = report.problems.iter().filter(|problem| problem.is_damage()).count();
    let texts: Vec<String> = report.problems.iter().map(text).collect();
    if as_json {
        let problems = report.problems.iter().zip(&texts);
        let problems = problems.map(|(problem, text)| {
            json!({ "problem": kind(problem), "damage": problem.is_damage(), "text": text })
        });
        output::json(&json!({
            "schema_version": 1,
            "objects": report.objects,
            "size": report.size_bytes,
            "problems": problems.collect::<Vec<_>>(),
            "leftovers": report.leftovers,
        }));
    } else {
        let mut lines: String = texts.iter().map(|text| format!("{text}\n")).collect();
        if report.leftovers > 0 {
            lines += &format!("removed {} leftovers of killed processes\n", report.leftovers);
        }
        let (objects, bytes) = (report.objects, report.size_bytes);
        lines += &format!("{objects} objects, {bytes} bytes: {damaged} damaged\n");
        output::data(&lines);
    }
    if damaged > 0 {
        output::note(
            "hint: `pivot verify` names the stages; `pivot pull` or `pivot run` heals them",
        );
    }
    Ok(if damaged > 0 { Exit::NotDone } else { Exit::Done })
}

fn kind(problem: &Problem) -> &'static str {
    match problem {
        Problem::Damaged { .. } => "damaged",
        Problem::Unreadable { .. } => "unreadable",
        Problem::Incomplete { .. } => "incomplete",
        Problem::Foreign { .. } => "foreign",
        Problem::Writable { .. } => "writable",
        _ => "other",
    }
}

fn text(problem: &Problem) -> String {
    match problem {
        Problem::Damaged { id, quarantined: Some(to) } => {
            format!("object {id} is damaged: it is now `{}`", to.display())
        }
        Problem::Damaged { id, quarantined: None } => {
            format!("object {id} is damaged and could not be moved to quarantine")
        }
        Problem::Unreadable { id, error } => {
            format!("object {id}: {}", with_causes(error))
        }
        Problem::Incomplete { id, missing, example: (path, object) } => {
            let path = path.display();
            format!("directory {id} lacks {missing} files, such as `{path}` (object {object})")
        }
        Problem::Foreign { path } => format!("`{}` is no object", path.display()),
        Problem::Writable { id } => format!("object {id} could be written: it is read-only again"),
        _ => "something else".to_owned(),
    }
}
