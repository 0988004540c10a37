//! One run of a plan, from its options to its summary; the loop itself is `execution.rs`.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pivot_dag::{OnFailure, Options, Scheduler, TaskId};
use pivot_pipeline::Resources;
use serde::Deserialize;
use thiserror::Error;

use crate::away::Away;
use crate::capacity::{Capacities, CapacityError};
use crate::config::Durability;
use crate::execution::{Agenda, Ends, Execution, Jobs};
use crate::extras::Extras;
use crate::facts::Planned;
use crate::load::Loaded;
use crate::outcome::{Event, Outcome, Summary};
use crate::outlook::{self, Outlook};
use crate::outputs::Site;
use crate::plan::{Decision, Plan};
use crate::project::OpenProject;
use crate::record;
use crate::signals::Signals;
use crate::stage_run::StageRunner;
use crate::supply::Supply;

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// How many stages may run at the same time.
    pub jobs: NonZeroUsize,
    /// What a failure means for stages that do not depend on the failed one.
    pub on_failure: OnFailure,
    /// How Python stages are executed.
    pub executor: Executor,
    /// How long the process of a stage may take; without it, as long as it likes.
    pub timeout: Option<Duration>,
    /// How much there is of resources, where the configuration or the machine say otherwise.
    pub resources: Resources,
}

/// How Python stages are executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Executor {
    /// Each stage in a fork of a process that has imported the third-party packages already.
    #[default]
    Warm,
    /// Each stage in a fresh process.
    Spawn,
    /// Stages one after the other in the same processes, which are set back in between.
    Reuse,
    /// The same with an interpreter of its own for each stage, where Python and the packages that the
    /// stage uses can; other stages as with [`Executor::Warm`].
    Interpreter,
}

/// Why a run could not be started or went wrong as a whole.
#[derive(Debug, Error)]
pub enum RunError {
    /// A stage needs more than there is.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// The system refused something that every run needs.
    #[error("cannot {action}")]
    System {
        /// Completes "cannot …".
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Carries out a plan and reports through `on_event`.
///
/// # Errors
/// When the run as a whole cannot go on; a stage's failure is an [`Outcome`].
pub fn run(
    project: &OpenProject,
    loaded: &Loaded,
    planned: Planned,
    options: &RunOptions,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Summary, RunError> {
    run_with(project, loaded, planned, options, &Supply::local(project), on_event)
}

/// The same with outputs from where the plan took them into account.
///
/// # Errors
/// As [`run`](run()).
pub fn run_with(
    project: &OpenProject,
    loaded: &Loaded,
    planned: Planned,
    options: &RunOptions,
    supply: &Supply<'_>,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Summary, RunError> {
    let started = Instant::now();
    let Planned { plan, extras, .. } = planned;
    let is_idle = plan.is_idle();
    // A remote that does not answer is told before hours of work that it would have spared.
    for text in supply.take_notices() {
        on_event(Event::Notice { text });
    }
    let mut ends = if is_idle {
        Ends::default()
    } else {
        let failed = |source| RunError::System { action: "prepare `.pivot`", source };
        project.make_layout().map_err(failed)?;
        // Held to the end: what this run relies on or writes must not be collected meanwhile.
        let _guard = project.cache.share(|| {
            let text = "waiting for `pivot gc`, which removes objects".to_owned();
            on_event(Event::Notice { text });
        });
        execute(project, loaded, &plan, &extras, options, supply, on_event)?
    };
    let outcomes = plan.stages.iter().map(|stage| {
        let left = match (is_idle, &stage.decision) {
            (true, Decision::Leave) => Outcome::Away,
            (true, _) => Outcome::Unchanged,
            (false, _) => Outcome::NotStarted,
        };
        let name = loaded.pipeline.stage(stage.task).name.to_string();
        (name, ends.outcomes.remove(&stage.task).unwrap_or(left))
    });
    let outcomes: Vec<_> = outcomes.collect();
    let wrote = |outcome: &Outcome| {
        let is_new = matches!(outcome, Outcome::Ran { .. } | Outcome::FromRunCache { .. });
        is_new || matches!(outcome, Outcome::Restored { .. })
    };
    let is_durable = project.config.core.durability == Durability::Batch;
    if is_durable && outcomes.iter().any(|(_, outcome)| wrote(outcome)) {
        // One for the whole run: a crash of the machine costs no finished stage.
        if let Err(error) = project.cache.sync() {
            on_event(Event::Notice { text: format!("the disk may not have all yet: {error}") });
        }
    }
    for text in supply.take_notices() {
        on_event(Event::Notice { text });
    }
    project.state.flush();
    let summary = Summary { outcomes, interrupted: ends.interrupted, elapsed: started.elapsed() };
    if let Some(recorder) = ends.recorder {
        let tasks: Vec<_> = plan.stages.iter().map(|stage| stage.task).collect();
        // Without the record only the looking back is lost.
        let _ = record::write(project.root(), &recorder.finish(&tasks, &summary));
    }
    Ok(summary)
}

fn execute(
    project: &OpenProject,
    loaded: &Loaded,
    plan: &Plan,
    extras: &Extras,
    options: &RunOptions,
    supply: &Supply<'_>,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Ends, RunError> {
    let system = |action| move |source| RunError::System { action, source };
    let (agenda, lacks) = agenda(project, loaded, plan, options)?;
    let signals = Signals::listen().map_err(system("listen for signals"))?;
    let (waker, wake) = UnixStream::pair().map_err(system("make a socket"))?;
    for end in [&waker, &wake] {
        end.set_nonblocking(true).map_err(system("make a socket"))?;
    }
    let workspace = project.workspace();
    let site = Site::new(project, &workspace);
    let away = Away::of_plan(plan);
    let stages = StageRunner { project, loaded, site, extras, supply, lacks: &lacks, away: &away };
    // What processes that died have left half-written; nobody waits for it or misses it.
    project.cache.sweep_temporary();
    let _ = project.locks.sweep_temporary();
    let (done, finished) = mpsc::channel();
    rayon::in_place_scope(|scope| {
        let jobs = Jobs::new(scope, done, &waker);
        let mut execution = Execution::new(stages, agenda, plan, options, jobs, on_event);
        execution.go(signals, &wake, &finished)?;
        Ok(execution.into_ends())
    })
}

/// What is to run, and why stages could not run that probably need not.
fn agenda<'g>(
    project: &OpenProject,
    loaded: &'g Loaded,
    plan: &Plan,
    options: &RunOptions,
) -> Result<(Agenda<'g>, HashMap<TaskId, CapacityError>), CapacityError> {
    let selected: Vec<TaskId> = plan.stages.iter().map(|stage| stage.task).collect();
    let graph = loaded.pipeline.graph();
    let of_all = Options { jobs: options.jobs, on_failure: options.on_failure };
    let mut scheduler = Scheduler::new(graph, &selected, of_all);
    let stage = |task: &TaskId| loaded.pipeline.stage(*task);
    let known: Vec<_> = selected
        .iter()
        .map(|task| {
            let name = &stage(task).name;
            (name.base().to_owned(), crate::durations::recall(&project.state, name.as_str()))
        })
        .collect();
    for (task, estimate) in selected.iter().zip(pivot_dag::fill_unknown(&known)) {
        if let Some(estimate) = estimate {
            scheduler.set_estimate(*task, estimate);
        }
    }
    let capacities = Capacities::new(options.jobs, [&project.config.resources, &options.resources]);
    let mut lacks = HashMap::new();
    for stage in &plan.stages {
        match capacities.demand(&mut scheduler, stage.task, loaded.pipeline.stage(stage.task)) {
            // What does not run needs nothing. It is told if the stage has to run after all.
            Err(lack) if !matches!(stage.decision, Decision::Run | Decision::MayRun) => {
                lacks.insert(stage.task, lack);
            }
            other => other?,
        }
    }
    let planned = plan.stages.iter().zip(&known);
    let planned = planned.filter(|(stage, _)| !stage.decision.is_idle());
    let tasks = planned.map(|(planned, (family, past))| outlook::Task {
        id: planned.task,
        family,
        runs: matches!(planned.decision, Decision::Run | Decision::MayRun),
        past: *past,
        shares: capacities.shares(options.jobs, stage(&planned.task)),
    });
    let outlook = Outlook::new(graph, tasks.collect());
    Ok((Agenda { scheduler, outlook, devices: capacities.devices() }, lacks))
}
