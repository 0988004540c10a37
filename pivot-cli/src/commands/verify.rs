//! `pivot verify`: is what the locks record still there, byte for byte?

use std::num::NonZeroUsize;

use pivot_exec::{Finding, Wrong};
use serde_json::json;

use crate::commands::verify_rerun;
use crate::exit::Exit;
use crate::report::{Report, with_causes};
use crate::show::output;
use crate::{Global, project};

/// Hash outputs and tracked data again, in the workspace and in the cache
///
/// Damaged objects are moved to quarantine, and stored again where the workspace has the right
/// bytes. The exit code is 1 if anything was wrong; stages that are merely stale are told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Stages, base names, patterns, or paths of outputs and tracked data [default: all]
    #[arg(value_name = "STAGES|PATHS")]
    words: Vec<String>,
    /// Run the stages again in a copy of the project, and tell which do not write the same
    ///
    /// Each runs with the dependencies that its lock records. Files, locks and the cache of the
    /// project stay as they are, unless a stage writes to an absolute path in it.
    #[arg(long)]
    rerun: bool,
    /// How many stages may run again at the same time [default: the number of processors]
    #[arg(short, long, value_name = "N", value_parser = crate::commands::jobs, requires = "rerun")]
    jobs: Option<NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    if arguments.rerun {
        return verify_rerun::run(global, &arguments.words, arguments.jobs, arguments.json);
    }
    let project = project::open(global)?;
    let locked = project::locked(global, &project, &arguments.words)?;
    let verified = pivot_exec::verify(&project, &locked);
    let is_well = verified.is_well() && locked.unusable == 0;
    if arguments.json {
        let outs = verified.outs.iter().map(|finding| {
            let wrong: Vec<_> = finding.wrong.iter().map(text).collect();
            let out = &finding.out;
            json!({
                "stage": out.stage,
                "path": out.artifact.path,
                "wrong": wrong,
                "on_remote_only": finding.is_away,
            })
        });
        let inconsistent = verified
            .inconsistent
            .iter()
            .map(|(stage, path, writer)| json!({ "stage": stage, "path": path, "writer": writer }));
        output::json(&json!({
            "schema_version": 1,
            "success": is_well,
            "outs": outs.collect::<Vec<_>>(),
            "inconsistent": inconsistent.collect::<Vec<_>>(),
        }));
    } else {
        let mut lines = String::new();
        for group in verified.outs.chunk_by(|a, b| a.out.stage == b.out.stage) {
            lines += &group_text(group);
        }
        for (stage, path, writer) in &verified.inconsistent {
            lines += &format!("stale  {stage}: it read another `{path}` than `{writer}` wrote\n");
        }
        let wrong = verified.outs.iter().filter(|finding| !finding.wrong.is_empty()).count();
        let away = verified.outs.iter().filter(|finding| finding.is_away).count();
        let away = if away > 0 { format!(", {away} on the remote only") } else { String::new() };
        lines += &format!("{} outputs: {wrong} wrong{away}\n", verified.outs.len());
        output::data(&lines);
    }
    if !is_well {
        output::note(
            "hint: `pivot checkout` brings outputs back from the cache, `pivot pull` objects from a \
             remote; `pivot run` makes them again",
        );
    }
    Ok(if is_well { Exit::Done } else { Exit::NotDone })
}

fn group_text(group: &[Finding]) -> String {
    let name = match &group[0].out {
        out if out.is_tracked => &out.artifact.path,
        out => &out.stage,
    };
    let is_well = group.iter().all(|finding| finding.wrong.is_empty());
    let mut lines = format!("{}  {name}\n", if is_well { "ok   " } else { "wrong" });
    for finding in group {
        if finding.is_away {
            lines += &format!("         {}: on the remote only\n", finding.out.artifact.path);
        }
        for wrong in &finding.wrong {
            lines += &format!("         {}: {}\n", finding.out.artifact.path, text(wrong));
        }
    }
    lines
}

fn text(wrong: &Wrong) -> String {
    match wrong {
        Wrong::Missing => "not in the workspace".to_owned(),
        Wrong::Differs { found } => format!("the workspace has another content ({})", found.id),
        Wrong::Unreadable(error) => with_causes(error),
        Wrong::Cache { error, is_healed: true } => {
            format!("{}; stored again from the workspace", with_causes(error))
        }
        Wrong::Cache { error, is_healed: false } => with_causes(error),
    }
}
