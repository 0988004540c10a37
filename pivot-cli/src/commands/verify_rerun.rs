//! `pivot verify --rerun`: do stages write the same when they run again?

use std::num::NonZeroUsize;

use pivot_exec::{OnFailure, Reach, Repeated, Rerun, RerunError, RunOptions, StageFailure};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::report::{Report, with_causes};
use crate::show::output;
use crate::show::progress::{Progress, hint};
use crate::{Global, project};

/// How many changed files of the project are named.
const NAMED: usize = 5;

pub(crate) fn run(
    global: &Global,
    words: &[String],
    jobs: Option<NonZeroUsize>,
    json: bool,
) -> Result<Exit, Report> {
    let project = project::open(global)?;
    let loaded = project::load(global, &project, &[])?;
    let selected = pivot_exec::select(&loaded.pipeline, words, Reach::Alone)?;
    let jobs = jobs.or(project.config.core.jobs);
    let jobs = jobs.or_else(|| std::thread::available_parallelism().ok());
    let options = RunOptions {
        jobs: jobs.unwrap_or(NonZeroUsize::MIN),
        on_failure: OnFailure::KeepGoing,
        executor: project.config.core.executor,
        timeout: None,
        resources: Default::default(),
    };
    let mut progress = Progress::new(false);
    let rerun = pivot_exec::rerun(&project, &loaded, &selected, &options, &mut |event| {
        progress.show(&event);
    });
    drop(progress);
    let rerun = rerun.map_err(|error| match error {
        RerunError::Plan(error) => project::plan_report(error, &loaded),
        RerunError::Run(error) => error.into(),
        error => Report::of(&error),
    })?;
    project.state.flush();
    if json {
        output::json(&as_json(&rerun));
    } else {
        output::data(&text(&rerun));
    }
    if !rerun.changed.is_empty() {
        let named: Vec<_> = rerun.changed.iter().take(NAMED).map(|p| p.display()).collect();
        let named: Vec<_> = named.iter().map(|path| format!("`{path}`")).collect();
        let more = rerun.changed.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        output::note(&format!(
            "warning: changed in the project meanwhile: {}{more}; a stage that writes to an absolute \
             path does so here too",
            named.join(", ")
        ));
    }
    Ok(match rerun.interrupted {
        Some(signal) => Exit::Interrupted { signal: signal.number() },
        None if rerun.is_well() => Exit::Done,
        None => Exit::NotDone,
    })
}

fn text(rerun: &Rerun) -> String {
    let mut lines = String::new();
    let mut tally: Vec<(&str, usize)> = Vec::new();
    for (stage, repeated) in &rerun.stages {
        let word = word(repeated);
        match tally.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => tally.push((word, 1)),
        }
        lines += &format!(
            "{word:12} {stage}{}\n",
            why(repeated).map_or(String::new(), |why| format!(": {why}"))
        );
        if let Repeated::Differs(differences) = repeated {
            for difference in differences {
                let found = difference.found.map_or("nothing".to_owned(), |c| c.id.to_string());
                let recorded = difference.recorded.id;
                lines +=
                    &format!("{:13}{}: {recorded} recorded, now {found}\n", "", difference.path);
            }
        }
    }
    let counts: Vec<_> = tally.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let total = rerun.stages.len();
    let stages = if total == 1 { "stage" } else { "stages" };
    lines + &format!("{total} {stages}: {}\n", counts.join(", "))
}

fn word(repeated: &Repeated) -> &'static str {
    match repeated {
        Repeated::Same => "same",
        Repeated::Differs(_) => "differs",
        Repeated::Failed(_) => "failed",
        Repeated::Continues { .. } => "passed over",
        Repeated::Stale(_) | Repeated::DepLost { .. } | Repeated::NotStarted => "not checked",
    }
}

/// What there is to say about a stage besides the word.
fn why(repeated: &Repeated) -> Option<String> {
    let and_hint = |failure: &StageFailure| {
        let hint = hint(failure).map_or(String::new(), |hint| format!("; {hint}"));
        with_causes(failure) + &hint
    };
    match repeated {
        Repeated::Same | Repeated::Differs(_) => None,
        Repeated::Failed(failure) => Some(and_hint(failure)),
        Repeated::Continues { path } => Some(format!("`{path}` goes on from what it held before")),
        Repeated::Stale(reasons) => {
            let reasons: Vec<_> = reasons.iter().map(pivot_lock::Reason::words).collect();
            Some(format!("{}; `pivot run` brings it up to date", reasons.join(", ")))
        }
        Repeated::DepLost { path, source } => Some(format!(
            "its dependency `{path}` cannot be had as recorded ({}); `pivot pull` may bring it",
            with_causes(&**source)
        )),
        Repeated::NotStarted => Some("the run ended before its turn".to_owned()),
    }
}

fn as_json(rerun: &Rerun) -> Value {
    let stages = rerun.stages.iter().map(|(stage, repeated)| {
        let outs: Vec<Value> = match repeated {
            Repeated::Differs(differences) => differences
                .iter()
                .map(|out| {
                    let found = out.found.map(|content| content.id.to_string());
                    json!({
                        "path": out.path,
                        "recorded": out.recorded.id.to_string(),
                        "found": found,
                    })
                })
                .collect(),
            _ => Vec::new(),
        };
        json!({ "stage": stage, "result": word(repeated), "why": why(repeated), "differs": outs })
    });
    json!({
        "schema_version": 1,
        "success": rerun.is_well(),
        "stages": stages.collect::<Vec<_>>(),
        "changed_in_project": rerun.changed.iter().map(|p| p.display().to_string()).collect::<Vec<_>>(),
    })
}
