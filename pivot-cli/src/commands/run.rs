//! `pivot run`: runs what is stale, or says what it would run.

use std::num::NonZeroUsize;
use std::time::Duration;

use indicatif::HumanBytes;
use pivot_exec::{
    Event, Fetched, Loaded, OnFailure, OpenProject, Outcome, Planned, Reach, Remaining, Request,
    RunOptions, StageFailure, Summary, Supply, TaskId,
};
use pivot_lock::words;
use serde_json::json;

use crate::exit::Exit;
use crate::report::Report;
use crate::show::progress::{Progress, hint, seconds};
use crate::show::{causes, output};
use crate::{Global, project, show};

/// Run the stages that are stale, with all that they need
///
/// Without names, all stages. A name may be a stage, the base name of variants (`train` for
/// `train@bert`), a pattern (`'train@*'`) or an output's path.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Stages, base names of variants, patterns or outputs' paths [default: all stages]
    #[arg(value_name = "STAGES")]
    stages: Vec<String>,
    /// Only show what would run
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Only show what would run, and why in full
    #[arg(long)]
    explain: bool,
    /// Run the named stages alone, without those they need
    #[arg(short, long, requires = "stages")]
    single_stage: bool,
    /// Run the named stages and those they need even if nothing changed (with -s the named alone)
    #[arg(short, long)]
    force: bool,
    /// After a failure go on with all that does not depend on the failed stage
    #[arg(short, long)]
    keep_going: bool,
    /// How many stages may run at the same time [default: the number of processors]
    #[arg(short, long, value_name = "N", value_parser = crate::commands::jobs)]
    jobs: Option<NonZeroUsize>,
    /// Give a stage, or all variants of a base name, another param for this run; may be repeated
    #[arg(short = 'S', long = "set", value_name = "STAGE.KEY=VALUE")]
    set: Vec<String>,
    /// How Python stages are executed [default: what the configuration says, or warm]
    #[arg(long, value_enum, value_name = "HOW")]
    executor: Option<Executor>,
    /// Stop a stage whose process takes longer, such as 90s, 15m or 2h, and count it as failed
    #[arg(long, value_name = "DURATION", value_parser = time_limit)]
    timeout: Option<Duration>,
    /// How much there is of a resource that stages need, such as gpus=2 or memory=64GB; may be
    /// repeated [default: what the configuration says, or the machine has]
    #[arg(long = "resource", value_name = "NAME=AMOUNT", value_parser = resource)]
    resources: Vec<(String, u64)>,
    /// Whether outputs are taken from the default remote instead of running stages
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Pull::Auto)]
    pull: Pull,
    /// Show all that the stages print
    #[arg(long)]
    show_output: bool,
    /// Print JSON: one object a line for a run, one document with -n or --explain
    #[arg(long)]
    json: bool,
}

/// Whether outputs are taken from a remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Pull {
    /// If there is a default remote, and only what is needed here; a remote that does not answer
    /// only costs a warning.
    Auto,
    /// Never.
    Never,
    /// Always, and all outputs; a remote that does not answer is a failure.
    Always,
}

impl From<Pull> for pivot_exec::Pull {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Auto => Self::Auto,
            Pull::Never => Self::Never,
            Pull::Always => Self::Always,
        }
    }
}

/// How stages are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Executor {
    /// A fork of a process that has imported the third-party packages already.
    Warm,
    /// A fresh Python process for every stage.
    Spawn,
    /// A few Python processes that run one stage after the other.
    Reuse,
    /// An interpreter of its own in such a process, where Python (3.14) and its packages can.
    Interpreter,
}

impl From<Executor> for pivot_exec::Executor {
    fn from(executor: Executor) -> Self {
        match executor {
            Executor::Warm => Self::Warm,
            Executor::Spawn => Self::Spawn,
            Executor::Reuse => Self::Reuse,
            Executor::Interpreter => Self::Interpreter,
        }
    }
}

fn time_limit(text: &str) -> Result<Duration, String> {
    pivot_pipeline::time_limit(text)
        .ok_or_else(|| "write seconds, or a number with a unit, such as 90s, 15m or 2h".to_owned())
}

fn resource(text: &str) -> Result<(String, u64), String> {
    let (name, amount) = text.split_once('=').ok_or("write NAME=AMOUNT")?;
    let known = pivot_pipeline::resource_amount(name, amount);
    let known = known.ok_or_else(|| format!("`{amount}` is not an amount of `{name}`"))?;
    Ok((name.to_owned(), known))
}

impl Arguments {
    /// Whether all stages are to be run as they are, if they are stale.
    fn is_plain(&self) -> bool {
        let Self { stages, dry_run, explain, force, set, .. } = self;
        stages.is_empty() && set.is_empty() && !dry_run && !explain && !force
    }
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let project = project::open(global)?;
    if arguments.is_plain()
        && let Some(summary) = project::settled(global, &project, arguments.pull.into())
    {
        project.state.flush();
        show_summary(arguments, &summary, None);
        return Ok(Exit::Done);
    }
    let loaded = project::load(global, &project, &arguments.set)?;
    let reach = if arguments.single_stage { Reach::Alone } else { Reach::WithUpstream };
    let selected = pivot_exec::select(&loaded.pipeline, &arguments.stages, reach)?;
    let named = project::named(&loaded, &arguments.stages)?;
    let is_forced = |_: TaskId| arguments.force;
    let request = Request { selected: &selected, named: &named, is_forced: &is_forced };
    let supply = Supply::new(&project, arguments.pull.into())?;
    let plan = || {
        pivot_exec::make_plan_with(&project, &loaded, &request, &supply).map_err(|error| {
            project::warn_of(&supply.take_notices());
            project::plan_report(error, &loaded)
        })
    };
    let planned = plan()?;
    if arguments.dry_run || arguments.explain {
        project::warn_of(&supply.take_notices());
    }
    project::warn_of_unusable_locks(&loaded, &planned);
    if arguments.explain || arguments.dry_run {
        project.state.flush();
        show::plan(&loaded, &planned, arguments.explain, arguments.json);
        return Ok(Exit::Done);
    }
    let mut summary = execute(arguments, &project, &loaded, planned, &supply)?;
    if summary.interrupted.is_none() && has_lost_dependencies(&summary) {
        // The remote has less than it said. Now that this is known, the plan is another one.
        output::note("note: going on without what the remote has lost");
        summary = execute(arguments, &project, &loaded, plan()?, &supply)?;
    }
    let fetched = supply.fetched();
    if let (Some(fetched), false) = (&fetched, arguments.json) {
        let Fetched { remote, objects, bytes } = fetched;
        let objects = show::transfer::objects(*objects);
        output::note(&format!("note: {objects} fetched from `{remote}` ({})", HumanBytes(*bytes)));
    }
    let exit = match summary.interrupted {
        Some(signal) => Exit::Interrupted { signal: signal.number() },
        None if summary.is_success() => Exit::Done,
        None => Exit::NotDone,
    };
    show_summary(arguments, &summary, fetched.as_ref());
    Ok(exit)
}

fn has_lost_dependencies(summary: &Summary) -> bool {
    let is_lost = |outcome: &Outcome| {
        matches!(outcome, Outcome::Failed(failure)
            if matches!(**failure, StageFailure::AwayLost { .. }))
    };
    summary.outcomes.iter().any(|(_, outcome)| is_lost(outcome))
}

fn execute(
    arguments: &Arguments,
    project: &OpenProject,
    loaded: &Loaded,
    planned: Planned,
    supply: &Supply<'_>,
) -> Result<Summary, Report> {
    let jobs = arguments.jobs.or(project.config.core.jobs);
    let jobs = jobs.or_else(|| std::thread::available_parallelism().ok());
    let on_failure = if arguments.keep_going { OnFailure::KeepGoing } else { OnFailure::Stop };
    let executor = arguments.executor.map_or(project.config.core.executor, Into::into);
    let options = RunOptions {
        jobs: jobs.unwrap_or(NonZeroUsize::MIN),
        on_failure,
        executor,
        timeout: arguments.timeout,
        resources: arguments.resources.iter().cloned().collect(),
    };
    let mut progress = Progress::new(arguments.show_output);
    let summary = pivot_exec::run_with(project, loaded, planned, &options, supply, &mut |event| {
        if arguments.json {
            if let Some(event) = event_json(&event, arguments.show_output) {
                output::json_line(&event);
            }
        } else {
            progress.show(&event);
        }
    })?;
    Ok(summary)
}

fn show_summary(arguments: &Arguments, summary: &Summary, fetched: Option<&Fetched>) {
    if arguments.json {
        output::json_line(&summary_json(summary, fetched));
    } else {
        output::data(&format!("{}\n", counts(summary)));
    }
}

/// The number of stages for each way to end, without the ways that no stage ended.
fn tally(summary: &Summary) -> Vec<(&'static str, usize)> {
    let order = [
        "ran",
        "restored",
        words::UNCHANGED_RUN_CACHE,
        words::UNCHANGED_REMOTE,
        words::UNCHANGED,
        "failed",
        "stopped",
        "not started",
    ];
    let count = |word: &&'static str| {
        let ended_so = |(_, outcome): &&(String, Outcome)| outcome.word() == *word;
        (*word, summary.outcomes.iter().filter(ended_so).count())
    };
    order.iter().map(count).filter(|(_, count)| *count > 0).collect()
}

/// The one line with which every run ends.
fn counts(summary: &Summary) -> String {
    let total = summary.outcomes.len();
    let stages = if total == 1 { "stage" } else { "stages" };
    let parts: Vec<String> =
        tally(summary).iter().map(|(word, count)| format!("{count} {word}")).collect();
    let parts = if parts.is_empty() { "nothing to do".to_owned() } else { parts.join(", ") };
    let stopped = if summary.interrupted.is_some() { ", interrupted" } else { "" };
    format!("{total} {stages}: {parts}{stopped} ({})", seconds(summary.elapsed))
}

fn event_json(event: &Event<'_>, with_output: bool) -> Option<serde_json::Value> {
    let reasons =
        |causes: &[pivot_exec::Cause]| causes.iter().map(causes::cause_json).collect::<Vec<_>>();
    Some(match event {
        Event::Started { stage, causes, expected, remaining } => {
            let mut value = json!({
                "schema_version": 1, "event": "started", "stage": stage,
                "reasons": reasons(causes),
            });
            if let Some(expected) = expected {
                value["expected_seconds"] = json!(expected.as_secs_f64());
            }
            value["remaining"] = remaining_json(remaining);
            value
        }
        Event::Printed { stage, stream, line } if with_output => json!({
            "schema_version": 1, "event": "printed", "stage": stage,
            "stream": if *stream == pivot_exec::Stream::Stdout { "stdout" } else { "stderr" },
            "line": line,
        }),
        Event::Printed { .. } => return None,
        Event::Notice { text } => json!({ "schema_version": 1, "event": "notice", "text": text }),
        Event::Ended { stage, outcome, causes, tail, effort, remaining } => {
            let mut value = json!({
                "schema_version": 1, "event": "ended", "stage": stage,
                "outcome": outcome.word(), "reasons": reasons(causes),
            });
            if let Some(effort) = effort {
                value["seconds"] = json!(effort.elapsed.as_secs_f64());
                if let Some(usage) = effort.usage {
                    value["cpu_seconds"] = json!(usage.cpu().as_secs_f64());
                    value["peak_memory_bytes"] = json!(usage.peak_bytes);
                }
            }
            value["remaining"] = remaining_json(remaining);
            match outcome {
                Outcome::Blocked { upstream } => value["upstream"] = json!(upstream),
                Outcome::Failed(failure) => {
                    value["error"] = json!(failure.to_string());
                    value["hint"] = json!(hint(failure));
                    value["output"] = json!(tail);
                    if let pivot_exec::StageFailure::Raised { traceback, .. } = &**failure {
                        value["traceback"] = json!(traceback);
                    }
                }
                Outcome::Restored { fetched: Some(fetched) }
                | Outcome::FromRunCache { fetched: Some(fetched) } => {
                    value["fetched"] = fetched_json(fetched);
                }
                _ => {}
            }
            value
        }
    })
}

/// What came from a remote.
fn fetched_json(fetched: &Fetched) -> serde_json::Value {
    let Fetched { remote, objects, bytes } = fetched;
    json!({ "remote": remote, "objects": objects, "bytes": bytes })
}

/// What is left of a run; the seconds are missing where nothing is known.
fn remaining_json(remaining: &Remaining) -> serde_json::Value {
    let Remaining { stages, unknown, time } = remaining;
    let mut value = json!({ "stages": stages, "unknown_stages": unknown });
    if let Some(time) = time {
        value["seconds"] = json!(time.as_secs_f64());
    }
    value
}

fn summary_json(summary: &Summary, fetched: Option<&Fetched>) -> serde_json::Value {
    let outcomes = summary
        .outcomes
        .iter()
        .map(|(stage, outcome)| json!({ "stage": stage, "outcome": outcome.word() }));
    let mut value = json!({
        "schema_version": 1,
        "event": "summary",
        "success": summary.is_success(),
        "seconds": summary.elapsed.as_secs_f64(),
        "stages": outcomes.collect::<Vec<_>>(),
    });
    if let Some(fetched) = fetched {
        value["fetched"] = fetched_json(fetched);
    }
    value
}
