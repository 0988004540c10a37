//! `pivot dag`: who needs whom, as text or for a program that draws.

use std::fmt::Write as _;

use pivot_exec::{Loaded, TaskId};

use crate::exit::Exit;
use crate::report::Report;
use crate::show::output;
use crate::{Global, project};

/// Show which stages each stage needs
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Stages, base names, patterns or outputs' paths, with all that they need [default: all]
    #[arg(value_name = "STAGES")]
    stages: Vec<String>,
    /// How to draw
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Print JSON: the stages, each with those it needs
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Lines of text, each stage with those it needs.
    Text,
    /// For Graphviz.
    Dot,
    /// For Markdown pages.
    Mermaid,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let project = project::open(global)?;
    let loaded = project::load(global, &project, &[])?;
    let reach = pivot_exec::Reach::WithUpstream;
    let selected = pivot_exec::select(&loaded.pipeline, &arguments.stages, reach)?;
    if arguments.json {
        output::json(&json(&loaded, &selected));
        return Ok(Exit::Done);
    }
    output::data(&match arguments.format {
        Format::Text => text(&loaded, &selected),
        Format::Dot => dot(&loaded, &selected),
        Format::Mermaid => mermaid(&loaded, &selected),
    });
    Ok(Exit::Done)
}

fn name(loaded: &Loaded, task: TaskId) -> &str {
    loaded.pipeline.stage(task).name.as_str()
}

fn upstream(loaded: &Loaded, task: TaskId) -> impl Iterator<Item = &str> {
    loaded.pipeline.graph().upstream(task).iter().map(|task| name(loaded, *task))
}

fn json(loaded: &Loaded, selected: &[TaskId]) -> serde_json::Value {
    let stages = selected.iter().map(|task| {
        serde_json::json!({
            "stage": name(loaded, *task),
            "upstream": upstream(loaded, *task).collect::<Vec<_>>(),
        })
    });
    serde_json::json!({ "schema_version": 1, "stages": stages.collect::<Vec<_>>() })
}

fn text(loaded: &Loaded, selected: &[TaskId]) -> String {
    let mut text = String::new();
    for task in selected {
        let needs: Vec<&str> = upstream(loaded, *task).collect();
        let needs =
            if needs.is_empty() { String::new() } else { format!(" <- {}", needs.join(", ")) };
        writeln!(text, "{}{needs}", name(loaded, *task)).expect("a string takes any text");
    }
    text
}

fn dot(loaded: &Loaded, selected: &[TaskId]) -> String {
    let mut text = String::from("digraph pipeline {\n    rankdir = LR;\n");
    for task in selected {
        let stage = name(loaded, *task);
        writeln!(text, "    \"{stage}\";").expect("a string takes any text");
        for needed in upstream(loaded, *task) {
            writeln!(text, "    \"{needed}\" -> \"{stage}\";").expect("a string takes any text");
        }
    }
    text + "}\n"
}

fn mermaid(loaded: &Loaded, selected: &[TaskId]) -> String {
    let mut text = String::from("flowchart LR\n");
    for task in selected {
        let (index, stage) = (task.index(), name(loaded, *task));
        // Names may hold characters that Mermaid takes for its own, so they are labels only.
        writeln!(text, "    s{index}[\"{stage}\"]").expect("a string takes any text");
        for needed in loaded.pipeline.graph().upstream(*task) {
            writeln!(text, "    s{} --> s{index}", needed.index())
                .expect("a string takes any text");
        }
    }
    text
}
