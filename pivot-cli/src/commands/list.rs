//! `pivot list`: the stages with what they read and write.

use std::fmt::Write as _;

use pivot_pipeline::{Action, Stage};
use serde_json::json;

use crate::exit::Exit;
use crate::report::Report;
use crate::show::output;
use crate::{Global, project};

/// List the stages with what they read and write
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Stages to list: names, base names of variants or patterns [default: all]
    #[arg(value_name = "STAGES")]
    stages: Vec<String>,
    /// Print names only
    #[arg(long)]
    names: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "names")]
    json: bool,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let project = project::open(global)?;
    let loaded = project::load(global, &project, &[])?;
    let reach = pivot_exec::Reach::Alone;
    let selected = pivot_exec::select(&loaded.pipeline, &arguments.stages, reach)?;
    let stages = selected.iter().map(|task| loaded.pipeline.stage(*task));
    if arguments.json {
        let stages: Vec<_> = stages.map(stage_json).collect();
        output::json(&json!({ "schema_version": 1, "stages": stages }));
    } else if arguments.names {
        output::data(&stages.map(|stage| format!("{}\n", stage.name)).collect::<String>());
    } else {
        output::data(&stages.map(stage_text).collect::<String>());
    }
    Ok(Exit::Done)
}

fn action(stage: &Stage) -> String {
    match &stage.action {
        Action::Python(action) => action.to_string(),
        Action::Shell { command } => command.clone(),
    }
}

fn stage_text(stage: &Stage) -> String {
    let mut text = format!("{}  ({}, {})\n", stage.name, action(stage), stage.place);
    let mut line = |mark: &str, path: &str, kind: &str| {
        let kind = if kind.is_empty() { String::new() } else { format!("  ({kind})") };
        writeln!(text, "  {mark} {path}{kind}").expect("a string takes any text");
    };
    for dep in &stage.deps {
        line("<-", dep.as_str(), "");
    }
    for out in &stage.outs {
        let kind = out.kind.as_str();
        line("->", out.path.as_str(), if kind == "out" { "" } else { kind });
    }
    text
}

fn stage_json(stage: &Stage) -> serde_json::Value {
    let outs = stage.outs.iter().map(
        |out| json!({ "path": out.path.as_str(), "kind": out.kind.as_str(), "cache": out.cache }),
    );
    json!({
        "stage": stage.name.as_str(),
        "action": action(stage),
        "file": &*stage.place.file,
        "line": stage.place.line,
        "deps": stage.deps.iter().map(|dep| dep.as_str()).collect::<Vec<_>>(),
        "outs": outs.collect::<Vec<_>>(),
        "params": stage.params.to_json(),
        "mutex": stage.mutex,
        "cwd": stage.cwd.as_ref().map(|cwd| cwd.as_str()),
    })
}
