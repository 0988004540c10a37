//! What lies on disk and in the cache when a run is planned.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use pivot_cache::{Cache, CacheError, Content, State};
use pivot_dag::TaskId;
use pivot_lock::{Artifact, Found, LockError};
use rayon::prelude::*;
use thiserror::Error;

use crate::absent::Absent;
use crate::away;
use crate::extras::Extras;
use crate::load::Loaded;
use crate::locks::{SeenLock, lock_path, read_lock};
use crate::plan::{Decision, Memory, MissingDep, Plan, PlanInput, StagePlan, plan, writers};
use crate::project::OpenProject;
use crate::run_cache::{self, RunKey};
use crate::settled::remember_settled;
use crate::supply::{Source, Supply};

/// The cache and the state, as the plan asks them.
pub(crate) struct CacheMemory<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) state: &'a State,
}

impl Memory for CacheMemory<'_> {
    fn holds(&self, content: &Content) -> bool {
        self.cache.holds(content)
    }

    fn known_run(&self, key: &RunKey) -> Option<Vec<Artifact>> {
        run_cache::look_up(self.state, key)
    }

    fn part(&self, directory: &Content, inner: &Path) -> Option<Content> {
        part_in(self.cache, directory, inner)
    }
}

/// What lies at `inner` below a directory, if the cache has its manifest.
pub(crate) fn part_in(cache: &Cache, directory: &Content, inner: &Path) -> Option<Content> {
    if !directory.is_directory() || !cache.contains(directory.id) {
        return None;
    }
    cache.manifest(directory.id).ok()?.part(inner)
}

/// How often a plan asks the remote for records. Each answer may lead to the question for a stage
/// further down; what is left is asked for when its turn comes.
const MAX_ROUNDS: u32 = 8;

/// Why no plan can be made.
#[derive(Debug, Error)]
pub enum PlanError {
    /// Dependencies that no stage writes are not there.
    #[error("dependencies are missing")]
    MissingDeps(Vec<MissingDep>),
    /// Something on disk cannot be read.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A lock cannot be read.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The remote had to answer and did not.
    #[error("{0}")]
    Remote(String),
}

/// A plan and what was found on the way.
#[derive(Debug)]
pub struct Planned {
    /// What a run would do.
    pub plan: Plan,
    /// The locks of all stages, by their number.
    pub locks: Vec<Found>,
    pub(crate) extras: Extras,
}

/// What is to be planned.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The stages, in the graph's order.
    pub selected: &'a [TaskId],
    /// Those of them whose outputs were asked for, wherever they are; without any, those of the
    /// stages that no other one reads from.
    pub named: &'a [TaskId],
    /// Stages that run in any case.
    pub is_forced: &'a dyn Fn(TaskId) -> bool,
}

/// Looks at the locks and the files of the selected stages and plans a run.
///
/// # Errors
/// When a dependency is missing, or something cannot be read.
pub fn make_plan(
    project: &OpenProject,
    loaded: &Loaded,
    selected: &[TaskId],
    is_forced: &dyn Fn(TaskId) -> bool,
) -> Result<Planned, PlanError> {
    let request = Request { selected, named: &[], is_forced };
    make_plan_with(project, loaded, &request, &Supply::local(project))
}

/// The same for a run that may also take outputs from a remote. It is asked only if there is
/// something to do that it could spare.
///
/// # Errors
/// As [`make_plan`], and when the remote has to answer and does not.
pub fn make_plan_with(
    project: &OpenProject,
    loaded: &Loaded,
    request: &Request<'_>,
    supply: &Supply<'_>,
) -> Result<Planned, PlanError> {
    let Request { selected, named, is_forced } = *request;
    let stages = loaded.pipeline.stages();
    let workspace = project.workspace();
    let mut locks = Vec::new();
    locks.resize_with(stages.len(), || Found::Absent);
    let read: Vec<SeenLock> = selected
        .par_iter()
        .with_min_len(64)
        .map(|task| read_lock(project, &workspace, stages[task.index()].name.as_str()))
        .collect::<Result<_, LockError>>()?;
    let mut lock_contents = Vec::with_capacity(read.len());
    for (task, lock) in selected.iter().zip(read) {
        locks[task.index()] = lock.found;
        lock_contents.push(lock.content);
    }

    let all = || selected.iter().map(|task| &stages[task.index()]);
    let outs = all().flat_map(|stage| &stage.outs).map(|out| (out.path.as_str(), false));
    let deps = all().flat_map(|stage| &stage.deps).map(|dep| (dep.as_str(), true));
    // A path that is both comes first as an output, whose errors are no obstacle.
    let mut numbers: HashMap<&str, usize> = HashMap::with_capacity(selected.len());
    let mut paths: Vec<(&str, bool)> = Vec::with_capacity(selected.len());
    for (path, is_dep) in outs.chain(deps) {
        numbers.entry(path).or_insert_with(|| {
            paths.push((path, is_dep));
            paths.len() - 1
        });
    }
    let contents: Vec<Option<Content>> = paths
        .par_iter()
        .with_min_len(64)
        .map(|(path, is_dep)| match workspace.content(path) {
            Err(_) if !is_dep => Ok(None),
            content => content,
        })
        .collect::<Result<_, CacheError>>()?;

    let extras = Extras::gather(project, loaded, &workspace, &locks);
    let graph = loaded.pipeline.graph();
    let missing = paths.iter().zip(&contents);
    let missing = missing.filter(|((_, is_dep), content)| *is_dep && content.is_none());
    let mut missing: Vec<&str> = missing.map(|((path, _), _)| *path).collect();
    if !missing.is_empty() {
        let selected: HashSet<TaskId> = selected.iter().copied().collect();
        missing.retain(|path| !writers(graph, path).any(|writer| selected.contains(&writer)));
    }
    let absent = Absent::look_for(project, loaded, &workspace, &missing, supply)?;
    let on_disk = |path: &str| contents[*numbers.get(path)?].or_else(|| absent.content(path));
    let input = PlanInput {
        stages,
        graph,
        codes: &loaded.codes,
        params: &loaded.params,
        locks: &locks,
        extras: &extras,
        selected,
        is_forced,
        on_disk: &on_disk,
    };
    let plan_with = |memory: &dyn Memory| {
        plan(&input, memory).map_err(|mut missing| {
            for dep in &mut missing {
                dep.recorded = absent.lost(&dep.path).map(str::to_owned);
            }
            PlanError::MissingDeps(missing)
        })
    };
    let mut plan = plan_with(&CacheMemory { cache: &project.cache, state: &project.state })?;
    let would_run = |plan: &Plan| {
        let runs = |stage: &StagePlan| {
            matches!(stage.decision, Decision::Run | Decision::MayRun) && !is_forced(stage.task)
        };
        plan.stages.iter().any(runs)
    };
    if supply.has_remote() && would_run(&plan) {
        let kept = plan.stages.iter().filter(|stage| stage.decision != Decision::Keep);
        supply.want(
            kept.flat_map(|stage| match &locks[stage.task.index()] {
                Found::Usable(lock) => lock.outs(),
                _ => &[],
            })
            .filter(|out| on_disk(&out.path) != Some(out.content))
            .map(|out| out.content),
        );
        supply.ask_wanted();
        for _ in 0..MAX_ROUNDS {
            plan = plan_with(&supply.while_planning())?;
            if !supply.ask_wanted() {
                break;
            }
        }
        if let Some(problem) = supply.failure() {
            return Err(PlanError::Remote(problem));
        }
        if supply.is_lazy() {
            let is_only_there = |path: &str, content: &Content| {
                let is_free = || fs::symlink_metadata(project.root().join(path)).is_err();
                !supply.is_in_cache(content) && is_free()
            };
            away::leave(&input, &mut plan, named, &is_only_there);
            if let Some(memory) = supply.while_silent() {
                // What nobody needs is not made only because the remote cannot be asked about it.
                let mut other = plan_with(&memory)?;
                away::leave(&input, &mut other, named, &is_only_there);
                if away::needs_nothing_from_there(&input, &other, &|c| supply.is_in_cache(c)) {
                    plan = other;
                }
            }
        }
    }
    absent.leave(&mut plan);
    if plan.is_idle() && selected.len() == stages.len() {
        let names = selected.iter().map(|task| stages[task.index()].name.as_str());
        let lock_paths: Vec<String> = names.map(lock_path).collect();
        let locks = lock_paths.iter().map(String::as_str).zip(lock_contents);
        let files = paths.iter().map(|(path, _)| *path).zip(contents.iter().copied());
        let is_known = |(path, content): (_, Option<Content>)| {
            let is_away = || plan.away.contains_key(path) || plan.parts.contains_key(path);
            (content.is_some() || is_away()).then_some((path, content))
        };
        let of_absent = absent.locks().iter().map(|(path, content)| (path.as_str(), *content));
        let all = locks.chain(of_absent).chain(files).map(is_known);
        let all = all.chain(extras.files().map(|(path, content)| Some((path, Some(content)))));
        if let Some(all) = all.collect::<Option<Vec<_>>>() {
            remember_settled(project, &workspace, loaded, &extras, &plan, all);
        }
    }
    Ok(Planned { plan, locks, extras })
}
