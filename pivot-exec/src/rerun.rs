//! Does a stage write the same again? Runs stages in a copy of the project, each with the inputs
//! that its lock records, and compares what they write with their locks.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use pivot_cache::Content;
use pivot_dag::{OnFailure, TaskId};
use pivot_lock::{Found, Lock, Reason};
use pivot_pipeline::OutKind;
use thiserror::Error;

use crate::facts::{PlanError, make_plan};
use crate::load::{LoadError, LoadOptions, Loaded, load};
use crate::outcome::{Event, Outcome, StageFailure};
use crate::plan::Cause;
use crate::project::OpenProject;
use crate::run::{RunError, RunOptions, run};
use crate::scratch::Scratch;
use crate::signals::Interrupt;
use crate::tracked::tracked;

/// What came of running stages again.
#[derive(Debug, Default)]
pub struct Rerun {
    /// The stages that were asked for, in the graph's order.
    pub stages: Vec<(String, Repeated)>,
    /// Files of the project, relative to it, that changed while stages ran in the copy.
    pub changed: Vec<PathBuf>,
    /// The signal that ended it early.
    pub interrupted: Option<Interrupt>,
}

impl Rerun {
    /// Whether every stage that can be run again wrote the same.
    pub fn is_well(&self) -> bool {
        let is_well = |(_, repeated): &(_, Repeated)| {
            matches!(repeated, Repeated::Same | Repeated::Continues { .. })
        };
        self.interrupted.is_none() && self.stages.iter().all(is_well)
    }
}

/// What came of running one stage again.
#[derive(Debug)]
pub enum Repeated {
    /// It wrote what its lock records.
    Same,
    /// It wrote something else.
    Differs(Vec<Difference>),
    /// It failed.
    Failed(Box<StageFailure>),
    /// It was not run: it goes on from what it wrote before, which the lock does not record.
    Continues {
        /// The incremental output.
        path: String,
    },
    /// It was not run, since there is nothing to compare with.
    Stale(Vec<Reason>),
    /// It was not run, since a dependency cannot be had as the lock records it.
    DepLost {
        /// The dependency.
        path: String,
        /// Why not.
        source: Box<StageFailure>,
    },
    /// It was not run, since the run ended before.
    NotStarted,
}

/// An output that was another one the second time.
#[derive(Debug)]
pub struct Difference {
    /// Where it is, relative to the project.
    pub path: String,
    /// What the lock records.
    pub recorded: Content,
    /// What the stage wrote now.
    pub found: Option<Content>,
}

/// Why stages could not be run again.
#[derive(Debug, Error)]
pub enum RerunError {
    /// The plan of the project cannot be made.
    #[error(transparent)]
    Plan(PlanError),
    /// The copy of the project cannot be made or used.
    #[error("cannot work in a copy of the project")]
    Copy(#[source] StageFailure),
    /// The pipeline cannot be loaded in the copy.
    #[error("cannot load the pipeline in a copy of the project")]
    Load(#[source] Box<LoadError>),
    /// The run could not go on.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Runs `selected` again in a copy of the project and compares.
///
/// Nothing of the project is changed, unless a stage writes to an absolute path in it or through a
/// link that leads there: that is told in the result.
///
/// # Errors
/// When there is no copy to run in, or the run as a whole cannot go on.
pub fn rerun(
    project: &OpenProject,
    loaded: &Loaded,
    selected: &[TaskId],
    options: &RunOptions,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Rerun, RerunError> {
    let with_upstream = loaded.pipeline.graph().with_upstream(selected);
    let planned =
        make_plan(project, loaded, &with_upstream, &|_| false).map_err(RerunError::Plan)?;
    let causes = planned.plan.stages.iter().map(|stage| (stage.task, stage.causes.as_slice()));
    let causes: HashMap<TaskId, &[Cause]> = causes.collect();
    let mut repeated: HashMap<TaskId, Repeated> = HashMap::new();
    let mut checked: HashMap<TaskId, &Lock> = HashMap::new();
    for task in selected {
        match check(loaded, *task, causes[task], &planned.locks[task.index()]) {
            Ok(lock) => drop(checked.insert(*task, lock)),
            Err(reason) => drop(repeated.insert(*task, reason)),
        }
    }
    let mut rerun = Rerun::default();
    if !checked.is_empty() {
        // What is copied must not be collected meanwhile.
        let _guard = project.cache.share(|| {});
        let scratch =
            Scratch::copy(project, &left_out(project, loaded)).map_err(RerunError::Copy)?;
        let python = loaded.python.as_ref().map(|python| python.path.clone());
        let copy = load(&scratch.project, &LoadOptions { overrides: Vec::new(), python });
        let copy = copy.map_err(|error| RerunError::Load(Box::new(error)))?;
        let work = Work { scratch: &scratch, loaded, copy: &copy, locks: &checked };
        rerun.interrupted = work.go(selected, options, &mut repeated, on_event)?;
        rerun.changed = scratch.changed_in_original();
    }
    rerun.stages = selected
        .iter()
        .map(|task| {
            let name = loaded.pipeline.stage(*task).name.to_string();
            (name, repeated.remove(task).unwrap_or(Repeated::NotStarted))
        })
        .collect();
    Ok(rerun)
}

/// The lock to compare a stage with, or why there is none.
fn check<'l>(
    loaded: &Loaded,
    task: TaskId,
    causes: &[Cause],
    found: &'l Found,
) -> Result<&'l Lock, Repeated> {
    let stage = loaded.pipeline.stage(task);
    let reasons = causes.iter().filter_map(|cause| match cause {
        Cause::Differs(Reason::OutputsMissing(_) | Reason::OutputsChanged(_)) => None,
        Cause::UpstreamRuns { .. } => None,
        Cause::Differs(reason) => Some(reason.clone()),
    });
    // Another content of a dependency does not matter: the recorded one is brought.
    let is_other = |reason: &Reason| match reason {
        Reason::DepsChanged(changes) => changes.iter().any(|c| c.old.is_none() || c.new.is_none()),
        _ => true,
    };
    let reasons: Vec<Reason> = reasons.filter(is_other).collect();
    let incremental = stage.outs.iter().find(|out| out.kind == OutKind::Incremental);
    match (found, incremental) {
        (Found::Usable(lock), None) if reasons.is_empty() => Ok(lock),
        (Found::Usable(_), Some(out)) if reasons.is_empty() => {
            Err(Repeated::Continues { path: out.path.to_string() })
        }
        _ => Err(Repeated::Stale(reasons)),
    }
}

/// What a copy of the project needs only if a stage reads it, and then as the lock records it:
/// outputs and tracked data.
fn left_out(project: &OpenProject, loaded: &Loaded) -> HashSet<String> {
    let graph = loaded.pipeline.graph();
    let outs = graph.tasks().flat_map(|task| &loaded.pipeline.stage(task).outs);
    let outs = outs.map(|out| out.path.to_string());
    let tracked = tracked(project).map(|(tracked, _)| tracked).unwrap_or_default();
    outs.chain(tracked.into_iter().map(|tracked| tracked.artifact.path)).collect()
}

/// All that it takes to run stages in the copy.
struct Work<'a> {
    scratch: &'a Scratch<'a>,
    loaded: &'a Loaded,
    /// The pipeline as it is in the copy.
    copy: &'a Loaded,
    locks: &'a HashMap<TaskId, &'a Lock>,
}

impl Work<'_> {
    /// Runs all stages that have a lock, in rounds of stages of which none writes what another
    /// one of the same round reads, or reads what another one has another record of.
    fn go(
        &self,
        selected: &[TaskId],
        options: &RunOptions,
        repeated: &mut HashMap<TaskId, Repeated>,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Interrupt>, RerunError> {
        for mut level in self.levels(selected) {
            while !level.is_empty() {
                let (round, later) = self.round(&level, repeated);
                level = later;
                if let Some(signal) = self.run(&round, options, repeated, on_event)? {
                    return Ok(Some(signal));
                }
            }
        }
        Ok(None)
    }

    /// The stages by how many of them lie upstream.
    fn levels(&self, selected: &[TaskId]) -> Vec<Vec<TaskId>> {
        let graph = self.loaded.pipeline.graph();
        let mut depths: HashMap<TaskId, usize> = HashMap::new();
        let mut levels: Vec<Vec<TaskId>> = Vec::new();
        for task in selected.iter().filter(|task| self.locks.contains_key(*task)) {
            let upstream = graph.upstream(*task).iter().filter_map(|task| depths.get(task));
            let depth = upstream.max().map_or(0, |depth| depth + 1);
            depths.insert(*task, depth);
            if levels.len() <= depth {
                levels.resize_with(depth + 1, Vec::new);
            }
            levels[depth].push(*task);
        }
        levels
    }

    /// Puts the dependencies of as many stages as possible in place; returns these stages, by
    /// their number in the project, and those that need another record of something.
    fn round(
        &self,
        level: &[TaskId],
        repeated: &mut HashMap<TaskId, Repeated>,
    ) -> (Vec<TaskId>, Vec<TaskId>) {
        let mut there: HashMap<&str, Content> = HashMap::new();
        let (mut round, mut later) = (Vec::new(), Vec::new());
        for task in level {
            let deps = self.locks[task].deps();
            let fits = |path, content| there.get(path).is_none_or(|known| *known == content);
            if !deps.iter().all(|dep| fits(dep.path.as_str(), dep.content)) {
                later.push(*task);
                continue;
            }
            there.extend(deps.iter().map(|dep| (dep.path.as_str(), dep.content)));
            let put = |dep: &pivot_lock::Artifact| self.scratch.put(&dep.path, &dep.content);
            let lost = deps.iter().find_map(|dep| put(dep).err().map(|why| (dep, why)));
            match lost {
                None => round.push(*task),
                Some((dep, why)) => {
                    let source = Box::new(why);
                    repeated.insert(*task, Repeated::DepLost { path: dep.path.clone(), source });
                }
            }
        }
        (round, later)
    }

    fn run(
        &self,
        round: &[TaskId],
        options: &RunOptions,
        repeated: &mut HashMap<TaskId, Repeated>,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Interrupt>, RerunError> {
        if round.is_empty() {
            return Ok(None);
        }
        let name = |task: TaskId| self.loaded.pipeline.stage(task).name.as_str();
        let graph = self.copy.pipeline.graph();
        let wanted: HashMap<&str, TaskId> = round.iter().map(|task| (name(*task), *task)).collect();
        let is_wanted =
            |task: &TaskId| wanted.contains_key(self.copy.pipeline.stage(*task).name.as_str());
        let tasks: Vec<TaskId> = graph.order().iter().copied().filter(is_wanted).collect();
        let project = &self.scratch.project;
        let planned = make_plan(project, self.copy, &tasks, &|_| true).map_err(RerunError::Plan)?;
        let options = RunOptions { on_failure: OnFailure::KeepGoing, ..options.clone() };
        let forced = [Cause::Differs(Reason::Forced)];
        let summary = run(project, self.copy, planned, &options, &mut |event| match event {
            // What else the copy lacks is nobody's concern.
            Event::Started { stage, expected, remaining, .. } => {
                on_event(Event::Started { stage, causes: &forced, expected, remaining });
            }
            other => on_event(other),
        })?;
        for (stage, outcome) in summary.outcomes {
            let task = wanted[stage.as_str()];
            let result = match outcome {
                Outcome::Failed(failure) => Repeated::Failed(failure),
                Outcome::Ran { .. } => self.compare(&stage, self.locks[&task]),
                _ => continue,
            };
            repeated.insert(task, result);
        }
        Ok(summary.interrupted)
    }

    fn compare(&self, stage: &str, recorded: &Lock) -> Repeated {
        let found = self.scratch.project.locks.read(stage);
        let found = match &found {
            Ok(Found::Usable(lock)) => Some(lock),
            _ => None,
        };
        let differences = recorded.outs().iter().filter_map(|out| {
            let found = found.and_then(|lock| lock.out(&out.path));
            let is_same = found == Some(out.content);
            let (path, recorded) = (out.path.clone(), out.content);
            (!is_same).then_some(Difference { path, recorded, found })
        });
        let differences: Vec<_> = differences.collect();
        if differences.is_empty() { Repeated::Same } else { Repeated::Differs(differences) }
    }
}
