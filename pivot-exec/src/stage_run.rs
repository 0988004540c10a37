//! The two halves of running a stage around its process: `begin` and `commit`.
//!
//! Both work on files and may take long, so the run calls them on other threads. The order
//! within `commit` is what makes a crash harmless: outputs go to the cache first, then the
//! dependencies are checked again, the lock is written after that and the state last.

use std::collections::HashMap;
use std::time::Duration;

use pivot_cache::{CheckoutMode, Content};
use pivot_dag::TaskId;
use pivot_fingerprint::Manifest;
use pivot_lock::{Artifact, Found, Lock};
use pivot_pipeline::{Action, Out, OutKind, Stage};

use crate::away::{Away, Turn};
use crate::capacity::CapacityError;
use crate::extras::{Extras, with_reported, with_variables};
use crate::guard::{self, Attempt, StageGuard};
use crate::load::Loaded;
use crate::locks::write_lock;
use crate::outcome::{Outcome, StageFailure};
use crate::outputs::{Incident, Site, check_inside};
use crate::plan::{Cause, Decision, DepState, StageFacts, decide, is_repeatable};
use crate::project::OpenProject;
use crate::run_cache::{self, RunKey};
use crate::supply::{Fetched, Source};
use crate::tracked::tracked_mode;
use crate::worker::ExtraFrame;

/// What the halves share: one for the whole run.
#[derive(Clone, Copy)]
pub(crate) struct StageRunner<'a> {
    pub(crate) project: &'a OpenProject,
    pub(crate) loaded: &'a Loaded,
    pub(crate) site: Site<'a>,
    pub(crate) extras: &'a Extras,
    pub(crate) supply: &'a dyn Source,
    /// Stages whose demands cannot be met, which is only an error if they are to run.
    pub(crate) lacks: &'a HashMap<TaskId, CapacityError>,
    pub(crate) away: &'a Away,
}

/// What `begin` found to do.
pub(crate) enum Begun {
    /// Nothing is left to do: the stage ended without a process.
    Ended { outcome: Outcome, causes: Vec<Cause> },
    /// The process may start.
    Ready(Box<Ready>),
    /// Another process holds the stage.
    Held { pid: Option<u32> },
    /// A dependency is on its way from the remote, for another stage.
    Waits,
}

/// A stage whose outputs have been cleared and whose process may start.
pub(crate) struct Ready {
    pub(crate) causes: Vec<Cause>,
    deps: Vec<Content>,
    pub(crate) guard: StageGuard,
}

impl StageRunner<'_> {
    fn stage(&self, task: TaskId) -> &Stage {
        self.loaded.pipeline.stage(task)
    }

    fn facts<'s>(
        &'s self,
        task: TaskId,
        lock: &'s Found,
        is_forced: bool,
    ) -> Result<StageFacts<'s>, StageFailure> {
        let stage = self.stage(task);
        let mut deps = Vec::with_capacity(stage.deps.len());
        for dep in &stage.deps {
            let content = match self.away.content(dep.as_str()) {
                Some(content) => Some(content),
                None => self.site.workspace.content(dep.as_str())?,
            };
            let missing = || StageFailure::InputMissing { path: dep.as_str().to_owned() };
            deps.push(DepState::Known(content.ok_or_else(missing)?));
        }
        // What cannot be read at an output's path is in the way: `clear` sets it aside.
        let on_disk = |out: &Out| self.site.workspace.content(out.path.as_str()).ok().flatten();
        Ok(StageFacts {
            stage,
            code: self.extras.extend(&self.loaded.codes[task.index()].manifest, lock),
            params: &self.loaded.params[task.index()],
            lock,
            is_forced,
            deps,
            outs: stage.outs.iter().map(on_disk).collect(),
        })
    }

    fn lock_of(&self, task: TaskId) -> Result<Found, StageFailure> {
        Ok(self.project.locks.read(self.stage(task).name.as_str())?)
    }

    /// Decides about a stage whose upstream stages have ended, and does everything that comes
    /// before its process. What was moved out of the way is added to `set_aside`, whatever happens
    /// after that.
    pub(crate) fn begin(
        &self,
        task: TaskId,
        is_forced: bool,
        set_aside: &mut Vec<Incident>,
    ) -> Result<Begun, StageFailure> {
        let stage = self.stage(task);
        let name = |task: TaskId| self.stage(task).name.to_string();
        let lock = self.lock_of(task)?;
        let facts = self.facts(task, &lock, is_forced)?;
        let (decision, causes) = decide(&facts, self.supply, &name);
        if let Some(outcome) = self.without_doing(stage, &decision) {
            return Ok(Begun::Ended { outcome, causes });
        }
        let guard = match guard::try_take(self.project.root(), stage.name.as_str())? {
            Attempt::Taken(guard) => guard,
            Attempt::Held(pid) => return Ok(Begun::Held { pid }),
        };
        // Whoever held the guard before may just have done the work.
        let lock = self.lock_of(task)?;
        let facts = self.facts(task, &lock, is_forced)?;
        let (decision, causes) = decide(&facts, self.supply, &name);
        if let Some(outcome) = self.without_doing(stage, &decision) {
            return Ok(Begun::Ended { outcome, causes });
        }
        self.check_outputs_are_inside(stage)?;
        if let Some(problem) = self.supply.failure() {
            return Err(StageFailure::Remote(problem));
        }
        let recorded = |path: &str| match &lock {
            Found::Usable(lock) => lock.out(path),
            _ => None,
        };
        let brought = match decision {
            Decision::Restore(outs) => {
                let restored = self.restore(stage, self.wanted(&outs), set_aside);
                restored.map(|fetched| Some(Outcome::Restored { fetched }))
            }
            Decision::FromRunCache(outs) => {
                let mut wanted = self.wanted(&outs);
                wanted.retain(|out| !self.is_on_disk(stage, &facts, out));
                self.restore(stage, wanted, set_aside).and_then(|fetched| {
                    self.write_lock(task, &facts.code, &facts_contents(&facts), outs)?;
                    Ok(Some(Outcome::FromRunCache { fetched }))
                })
            }
            _ => Ok(None),
        };
        match brought {
            Ok(Some(outcome)) => return Ok(Begun::Ended { outcome, causes }),
            // It can be made again, here and now.
            Err(StageFailure::Cache(error)) if error.is_loss() => {}
            Err(failure) => return Err(failure),
            Ok(None) => {}
        }
        if let Some(lack) = self.lacks.get(&task) {
            return Err(lack.clone().into());
        }
        let deps = facts_contents(&facts);
        if !self.bring_dependencies(stage, set_aside)? {
            return Ok(Begun::Waits);
        }
        for out in &stage.outs {
            let path = out.path.as_str();
            self.away.arrived(path);
            let recorded = recorded(path);
            match (&out.kind, recorded) {
                (OutKind::Incremental, Some(previous)) => {
                    self.go_on_from(path, &previous, set_aside)?;
                }
                _ => self.site.clear(path, recorded.as_ref(), set_aside)?,
            }
        }
        Ok(Begun::Ready(Box::new(Ready { causes, deps, guard })))
    }

    /// Nothing is cleared, restored or written where a link leads out of the project.
    fn check_outputs_are_inside(&self, stage: &Stage) -> Result<(), StageFailure> {
        for out in &stage.outs {
            check_inside(self.project.root(), out.path.as_str())?;
        }
        Ok(())
    }

    /// How a stage ends for which nothing has to be done; outputs that may stay on the remote are no
    /// reason to do something.
    fn without_doing(&self, stage: &Stage, decision: &Decision) -> Option<Outcome> {
        match decision {
            Decision::Keep => {
                stage.outs.iter().for_each(|out| self.away.arrived(out.path.as_str()));
                Some(Outcome::Unchanged)
            }
            Decision::Restore(outs) if outs.iter().all(|out| self.may_stay(out)) => {
                self.wanted(outs);
                Some(Outcome::Away)
            }
            _ => None,
        }
    }

    /// Whether the output is on the remote only, and nobody is known to need it here.
    fn may_stay(&self, out: &Artifact) -> bool {
        self.away.may_stay(&out.path)
            && !self.site.cache.holds(&out.content)
            && self.site.root.join(&out.path).symlink_metadata().is_err()
    }

    /// The outputs that are not left on the remote.
    fn wanted(&self, outs: &[Artifact]) -> Vec<Artifact> {
        let mut wanted = Vec::new();
        for out in outs {
            if self.may_stay(out) {
                self.away.stays(&out.path, out.content);
            } else {
                self.away.arrived(&out.path);
                wanted.push(out.clone());
            }
        }
        wanted
    }

    /// Puts dependencies in their place that were left on the remote. `false`: another stage is
    /// about to do it for one of them.
    fn bring_dependencies(
        &self,
        stage: &Stage,
        set_aside: &mut Vec<Incident>,
    ) -> Result<bool, StageFailure> {
        for dep in &stage.deps {
            let path = self.away.whole(dep.as_str());
            let content = match self.away.turn(path) {
                Turn::Here => continue,
                Turn::Others => return Ok(false),
                Turn::Yours(content) => content,
            };
            let artifact = Artifact::new(path, content);
            let writer = self.loaded.pipeline.graph().writer_of(path);
            let brought = check_inside(self.project.root(), path).and_then(|()| match writer {
                Some(writer) => self.restore(self.stage(writer), vec![artifact], set_aside),
                None => {
                    let mode = tracked_mode(self.project);
                    let fetched = self.supply.bring(std::slice::from_ref(&artifact))?;
                    self.site.restore(path, &content, mode, set_aside).map(|()| fetched)
                }
            });
            match brought {
                Ok(_) => self.away.arrived(path),
                Err(failure) => {
                    self.away.stays(path, content);
                    return Err(match failure {
                        StageFailure::Cache(source) if source.is_loss() => {
                            StageFailure::AwayLost { path: path.to_owned(), source }
                        }
                        failure => failure,
                    });
                }
            }
        }
        Ok(true)
    }

    fn is_on_disk(&self, stage: &Stage, facts: &StageFacts<'_>, artifact: &Artifact) -> bool {
        let index = stage.outs.iter().position(|out| out.path.as_str() == artifact.path);
        index.is_some_and(|index| facts.outs[index] == Some(artifact.content))
    }

    fn restore(
        &self,
        stage: &Stage,
        outs: Vec<Artifact>,
        set_aside: &mut Vec<Incident>,
    ) -> Result<Option<Fetched>, StageFailure> {
        let fetched = self.supply.bring(&outs)?;
        for artifact in &outs {
            let out = stage.outs.iter().find(|out| out.path.as_str() == artifact.path);
            // People edit metrics, and stages append to incremental outputs: both are theirs.
            let is_theirs = out.is_none_or(|out| !out.cache || out.kind == OutKind::Incremental);
            let mode = if is_theirs { CheckoutMode::Copy } else { self.site.mode };
            let restored = self.site.restore(&artifact.path, &artifact.content, mode, set_aside);
            if let Err(StageFailure::Cache(error)) = &restored
                && error.is_loss()
            {
                let path = artifact.path.clone();
                set_aside.push(Incident::Lost { path, why: error.to_string() });
            }
            restored?;
        }
        Ok(fetched)
    }

    /// Puts the last content of an incremental output in its place, as a private copy.
    fn go_on_from(
        &self,
        path: &str,
        previous: &Content,
        set_aside: &mut Vec<Incident>,
    ) -> Result<(), StageFailure> {
        let Site { workspace, cache, .. } = self.site;
        // A cache that was deleted lacks it, and the workspace may have it still.
        if !cache.holds(previous) && workspace.content(path).ok().flatten() == Some(*previous) {
            workspace.store(cache, path)?;
        }
        let brought = self.supply.bring(&[Artifact::new(path, *previous)]);
        brought
            .and_then(|_| self.site.restore(path, previous, CheckoutMode::Copy, set_aside))
            .map_err(|failure| match failure {
                StageFailure::Cache(source) if source.is_loss() => {
                    StageFailure::PreviousLost { path: path.to_owned(), source }
                }
                failure => failure,
            })
    }

    /// Records what a stage wrote, after its process has ended well.
    pub(crate) fn commit(
        &self,
        task: TaskId,
        ready: &Ready,
        reported: &[ExtraFrame],
        elapsed: Duration,
    ) -> Result<(), StageFailure> {
        let stage = self.stage(task);
        let outs = self.store_outputs(stage, &ready.deps)?;
        let code = with_reported(&self.loaded.codes[task.index()].manifest, reported);
        let code = match &stage.action {
            Action::Shell { command } => with_variables(&code, command),
            Action::Python(_) => code,
        };
        self.write_lock(task, &code, &ready.deps, outs.clone())?;
        let state = &self.project.state;
        if is_repeatable(stage) {
            let deps = stage.deps.iter().map(|dep| dep.as_str()).zip(ready.deps.iter().copied());
            let deps: Vec<_> = deps.collect();
            let key = RunKey::new(&code, &self.loaded.params[task.index()], &deps, &stage.outs);
            run_cache::remember(state, &key, &outs);
        }
        crate::durations::remember(state, stage.name.as_str(), elapsed);
        Ok(())
    }

    /// Stores what lies at the outputs' paths, and checks that the dependencies are still `deps`.
    fn store_outputs(
        &self,
        stage: &Stage,
        deps: &[Content],
    ) -> Result<Vec<Artifact>, StageFailure> {
        let root = self.project.root();
        let missing: Vec<String> = stage
            .outs
            .iter()
            .filter(|out| root.join(out.path.as_str()).symlink_metadata().is_err())
            .map(|out| out.path.as_str().to_owned())
            .collect();
        if !missing.is_empty() {
            return Err(StageFailure::OutputsMissing { paths: missing });
        }
        let mut outs = Vec::with_capacity(stage.outs.len());
        for out in &stage.outs {
            let path = out.path.as_str();
            let content = self.store(out)?;
            outs.push(Artifact::new(path, content));
        }
        for (dep, before) in stage.deps.iter().zip(deps) {
            let path = dep.as_str();
            if self.site.workspace.content(path)?.as_ref() != Some(before) {
                return Err(StageFailure::InputChanged { path: path.to_owned() });
            }
        }
        Ok(outs)
    }

    /// Records what is there now as what the stage wrote, without running it. `false`: that is what
    /// its lock says already.
    pub(crate) fn accept(&self, task: TaskId) -> Result<bool, StageFailure> {
        let stage = self.stage(task);
        let _guard = guard::take(self.project.root(), stage.name.as_str())?;
        self.check_outputs_are_inside(stage)?;
        let lock = self.lock_of(task)?;
        let facts = self.facts(task, &lock, false)?;
        let name = |task: TaskId| self.stage(task).name.to_string();
        if decide(&facts, self.supply, &name).0 == Decision::Keep {
            return Ok(false);
        }
        let deps = facts_contents(&facts);
        let outs = self.store_outputs(stage, &deps)?;
        self.write_lock(task, &facts.code, &deps, outs)?;
        Ok(true)
    }

    /// Stores an output that can be restored later, or only hashes it.
    fn store(&self, out: &Out) -> Result<Content, StageFailure> {
        let Site { workspace, cache, mode, .. } = self.site;
        let path = out.path.as_str();
        let missing = || StageFailure::OutputsMissing { paths: vec![path.to_owned()] };
        Ok(match out.kind {
            // Metrics are small and stay in git; the cache keeps them too, so that going back to
            // an earlier state executes nothing. People edit them, so they stay plain files.
            OutKind::Metric => workspace.store(cache, path)?,
            // The next run adds to a private copy.
            OutKind::Incremental => workspace.store(cache, path)?,
            _ if out.cache => workspace.adopt(cache, path, mode)?,
            _ => workspace.content(path)?.ok_or_else(missing)?,
        })
    }

    fn write_lock(
        &self,
        task: TaskId,
        code: &Manifest,
        deps: &[Content],
        outs: Vec<Artifact>,
    ) -> Result<(), StageFailure> {
        let stage = self.stage(task);
        let code = code.components().iter().map(|part| (part.name.clone(), part.hash));
        let deps =
            stage.deps.iter().zip(deps).map(|(dep, content)| Artifact::new(dep.as_str(), *content));
        let params = self.loaded.params[task.index()].clone();
        let lock = Lock::new(code, params, deps.collect(), outs)
            .map_err(|error| StageFailure::Unlockable(error.to_string()))?;
        write_lock(self.project, stage.name.as_str(), &lock)?;
        Ok(())
    }

    /// Takes back what a stage that failed has written.
    pub(crate) fn discard(&self, task: TaskId) {
        for out in &self.stage(task).outs {
            self.site.discard(out.path.as_str());
        }
    }

    /// Checks that the code that ran is the code that the fingerprint was taken of.
    pub(crate) fn check_sources(
        &self,
        executed: &std::collections::BTreeMap<String, String>,
    ) -> Result<(), StageFailure> {
        match self.loaded.changed_source(executed) {
            Some(path) => Err(StageFailure::SourceChanged { path }),
            None => Ok(()),
        }
    }
}

fn facts_contents(facts: &StageFacts<'_>) -> Vec<Content> {
    let known = |state: &DepState| match state {
        DepState::Known(content) => *content,
        DepState::Missing | DepState::Pending(_) => {
            unreachable!("a stage begins with all its dependencies")
        }
    };
    facts.deps.iter().map(known).collect()
}
