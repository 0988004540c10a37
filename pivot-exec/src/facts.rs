//! What lies on disk and in the cache when a run is planned.

use std::collections::HashMap;

use pivot_cache::{Cache, CacheError, Content, State};
use pivot_dag::TaskId;
use pivot_lock::{Artifact, Found, LockError};
use rayon::prelude::*;
use thiserror::Error;

use crate::extras::Extras;
use crate::load::Loaded;
use crate::locks::{SeenLock, lock_path, read_lock};
use crate::plan::{Memory, MissingDep, Plan, PlanInput, plan};
use crate::project::OpenProject;
use crate::run_cache::{self, RunKey};
use crate::settled::remember_settled;

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
}

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
    let memory = CacheMemory { cache: &project.cache, state: &project.state };
    let plan = plan(&PlanInput {
        stages,
        graph: loaded.pipeline.graph(),
        codes: &loaded.codes,
        params: &loaded.params,
        locks: &locks,
        extras: &extras,
        selected,
        is_forced,
        on_disk: &|path| contents[*numbers.get(path)?],
        memory: &memory,
    })
    .map_err(PlanError::MissingDeps)?;
    if plan.is_idle() && selected.len() == stages.len() {
        let names = || selected.iter().map(|task| stages[task.index()].name.as_str());
        let lock_paths: Vec<String> = names().map(lock_path).collect();
        let locks = lock_paths.iter().map(String::as_str).zip(lock_contents);
        let files = paths.iter().map(|(path, _)| *path).zip(contents.iter().copied());
        let all = locks.chain(files).map(|(path, content)| Some((path, content?)));
        let all = all.chain(extras.files().map(Some));
        if let Some(all) = all.collect::<Option<Vec<_>>>() {
            remember_settled(project, &workspace, loaded, &extras, names().collect(), all);
        }
    }
    Ok(Planned { plan, locks, extras })
}
