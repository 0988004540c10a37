//! `pivot params show`: the values that stages are given.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::exit::Exit;
use crate::report::Report;
use crate::show::output;
use crate::{Global, project};

/// Show the values that stages are given
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show current values: defaults, pivot.yaml or the decorator, and params.yaml over them
    Show(ShowArguments),
}

#[derive(Debug, clap::Args)]
struct ShowArguments {
    /// Stages to show: names, base names of variants or patterns [default: all]
    #[arg(value_name = "STAGES")]
    stages: Vec<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Plain)]
    format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with_all = ["format", "md"])]
    json: bool,
    /// The same as --format md
    #[arg(long, conflicts_with = "format")]
    md: bool,
    /// Show floats with at most this many decimal places
    #[arg(long, value_name = "DIGITS")]
    precision: Option<usize>,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A line a value.
    Plain,
    /// One JSON document.
    Json,
    /// A Markdown table.
    Md,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let Command::Show(arguments) = &arguments.command;
    let project = project::open(global)?;
    let loaded = project::load(global, &project, &[])?;
    let reach = pivot_exec::Reach::Alone;
    let selected = pivot_exec::select(&loaded.pipeline, &arguments.stages, reach)?;
    let stages: Vec<(&str, &Value)> = selected
        .iter()
        .map(|task| {
            let index = task.index();
            (loaded.pipeline.stages()[index].name.as_str(), &loaded.params[index])
        })
        .filter(|(_, params)| params.as_object().is_some_and(|params| !params.is_empty()))
        .collect();
    let format = match arguments {
        ShowArguments { json: true, .. } => Format::Json,
        ShowArguments { md: true, .. } => Format::Md,
        _ => arguments.format,
    };
    match format {
        Format::Json => {
            let stages: serde_json::Map<String, Value> = stages
                .iter()
                .map(|(name, params)| ((*name).to_owned(), (*params).clone()))
                .collect();
            output::json(&json!({ "schema_version": 1, "params": stages }));
        }
        Format::Plain => output::data(&plain(&stages, arguments.precision)),
        Format::Md => output::data(&markdown(&stages, arguments.precision)),
    }
    Ok(Exit::Done)
}

/// Every value with its dotted key, mappings flattened.
fn flat<'v>(params: &'v Value) -> Vec<(String, &'v Value)> {
    let mut found = Vec::new();
    let mut waiting: Vec<(String, &'v Value)> = vec![(String::new(), params)];
    while let Some((key, value)) = waiting.pop() {
        match value {
            Value::Object(map) if !map.is_empty() => {
                let inner = map.iter().map(|(name, value)| {
                    (if key.is_empty() { name.clone() } else { format!("{key}.{name}") }, value)
                });
                waiting.extend(inner.collect::<Vec<_>>().into_iter().rev());
            }
            _ => found.push((key, value)),
        }
    }
    found
}

fn shown(value: &Value, precision: Option<usize>) -> String {
    match (value, value.as_f64(), precision) {
        (Value::Number(number), Some(float), Some(digits)) if number.is_f64() => {
            let text = format!("{float:.digits$}");
            if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            } else {
                text
            }
        }
        (Value::String(text), ..) => text.clone(),
        _ => value.to_string(),
    }
}

fn plain(stages: &[(&str, &Value)], precision: Option<usize>) -> String {
    let mut text = String::new();
    for (name, params) in stages {
        for (key, value) in flat(params) {
            writeln!(text, "{name}.{key}: {}", shown(value, precision))
                .expect("a string takes any text");
        }
    }
    text
}

fn markdown(stages: &[(&str, &Value)], precision: Option<usize>) -> String {
    let mut text = String::from("| Stage | Param | Value |\n| --- | --- | --- |\n");
    for (name, params) in stages {
        for (key, value) in flat(params) {
            let value = shown(value, precision).replace('|', "\\|").replace('\n', " ");
            writeln!(text, "| {name} | {key} | {value} |").expect("a string takes any text");
        }
    }
    text
}
