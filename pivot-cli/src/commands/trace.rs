//! `pivot trace`: what a run did when, for a program that draws it.

use std::path::PathBuf;

use pivot_exec::{Phase, RunRecord};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::report::Report;
use crate::show::output;
use crate::{Global, project};

/// Print a past run as a trace, to be opened with ui.perfetto.dev or chrome://tracing
///
/// Each lane holds stages that ran one after the other; each stage shows what was done before its
/// process, the process, and what was done after it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The name of the run, as `--list` prints it [default: the last run]
    run: Option<String>,
    /// List the runs that are kept, the newest last
    #[arg(short, long, conflicts_with = "run")]
    list: bool,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "list")]
    output: Option<PathBuf>,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let project = project::open(global)?;
    let root = project.root();
    let io = |what: String| move |error: std::io::Error| Report::new(what).caused_by(&error);
    let names = pivot_exec::run_names(root).map_err(io("cannot read `.pivot/runs`".into()))?;
    if arguments.list {
        for name in names {
            // One that was removed or damaged meanwhile is not worth an error.
            if let Ok(record) = pivot_exec::read_run(root, &name) {
                let ended = if record.success { "done" } else { "not done" };
                let ran = record.stages.iter().filter(|stage| stage.outcome == "ran").count();
                let (all, seconds) = (record.stages.len(), record.seconds);
                output::data(&format!("{name}  {ran} of {all} ran, {ended} ({seconds:.2}s)\n"));
            }
        }
        return Ok(Exit::Done);
    }
    let name = match &arguments.run {
        Some(name) if names.contains(name) => name,
        Some(name) => {
            let report = Report::new(format!("there is no record of a run `{name}`"));
            return Err(report.hint("`pivot trace --list` shows the runs that are kept"));
        }
        None => names.last().ok_or_else(|| {
            Report::new("no run has been recorded").hint("a run that executes stages is")
        })?,
    };
    let what = format!("cannot read the record of run `{name}`");
    let trace = trace(&pivot_exec::read_run(root, name).map_err(io(what))?);
    match &arguments.output {
        None => output::json(&trace),
        Some(path) => {
            let what = format!("cannot write `{}`", path.display());
            std::fs::write(path, trace.to_string()).map_err(io(what))?;
        }
    }
    Ok(Exit::Done)
}

/// The run in the form that Chrome's and Perfetto's viewers read; times are microseconds.
fn trace(record: &RunRecord) -> Value {
    let micros = |seconds: f64| (seconds * 1e6).round();
    let mut events = Vec::new();
    let mut stages: Vec<_> = record.stages.iter().filter(|s| !s.spans.is_empty()).collect();
    stages.sort_by(|a, b| a.spans[0].start.total_cmp(&b.spans[0].start));
    // When each lane becomes free.
    let mut lanes: Vec<f64> = Vec::new();
    for stage in stages {
        let (Some(first), Some(last)) = (stage.spans.first(), stage.spans.last()) else { continue };
        let end = last.start + last.seconds;
        let lane = lanes.iter().position(|free| *free <= first.start);
        let lane = lane.unwrap_or(lanes.len());
        if lane == lanes.len() {
            lanes.push(0.0);
        }
        lanes[lane] = end;
        let event = |name: &str, start: f64, seconds: f64, args: Value| {
            json!({
                "ph": "X", "pid": 1, "tid": lane + 1, "name": name,
                "ts": micros(start), "dur": micros(seconds), "args": args,
            })
        };
        let args = json!({
            "outcome": stage.outcome, "cpu_seconds": stage.cpu_seconds,
            "peak_memory_bytes": stage.peak_memory_bytes,
        });
        events.push(event(&stage.stage, first.start, end - first.start, args));
        for span in &stage.spans {
            let phase = match span.phase {
                Phase::Prepare => "prepare",
                Phase::Run => "run",
                Phase::Store => "store",
            };
            events.push(event(phase, span.start, span.seconds, json!({})));
        }
    }
    for lane in 1..=lanes.len() {
        events.push(json!({
            "ph": "M", "pid": 1, "tid": lane, "name": "thread_name",
            "args": { "name": format!("lane {lane}") },
        }));
    }
    json!({ "displayTimeUnit": "ms", "traceEvents": events })
}
